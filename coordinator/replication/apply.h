// What the leader of a shard has changed, carried to its followers in the same transaction.
#pragma once

#include "coordinator/planner/modify.h"
#include "coordinator/remote/remote.h"

extern "C" {
#include "utils/relcache.h"
}

namespace panvel {

// The followers' statements of one local statement.
struct Followers {
    MemoryContext context; // the local statement's
    Relation relation;
    const DistributedTable *table;
    List *under_way; // Apply *
    int64 leader_us; // how long the leader took for what is sent now, in microseconds
};

// Has every follower of the shard execute `statement` as the leader did, where it changed `rows`.
void repeat_on_followers(Followers *followers, const Shard *shard, const RemoteStatement *statement,
                         int64 rows);

// Sends the images that end each row of the leader's result to every follower of the shard.
void send_images(Followers *followers, const ModifyPlan *plan, const Shard *shard,
                 const PGresult *result);

// Has the leader note the keys of these rows for placements that are out of sync, in the same
// transaction.
void journal_images(Followers *followers, const ModifyPlan *plan, const Shard *shard,
                    const PGresult *result);

// The same for what is not known row by row: such placements will be copied anew.
void journal_unknown(const Shard *shard);

// Waits for all of them. XX001 where a follower does not have the rows that the leader changed;
// 40001 where one is slower than the session has patience for (patience_ms()), and has been taken
// out of its sets. To be called before the local statement ends or hands out a row.
void finish_followers(Followers *followers);

} // namespace panvel
