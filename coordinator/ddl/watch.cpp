#include "coordinator/ddl/watch.h"

#include "coordinator/catalog/distributable.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/ddl/new_column.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "utils/memutils.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

struct Watch {
    const DistributedTable *table; // valid until the end of the transaction
    const TableImage *before;
    List *changes; // ColumnChange *
    SubTransactionId subtransaction;
};

List *watched = NIL; // Watch *, in TopTransactionContext; of nested statements the inner ones' last

// A subtransaction's statements cannot outlive it, but its error must not take an outer statement's
// tables out of the list.
void subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
                          void *) {
    ListCell *cell;
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        foreach (cell, watched)
            if (static_cast<Watch *>(lfirst(cell))->subtransaction == mine)
                watched = foreach_delete_current(watched, cell);
    } else if (event == SUBXACT_EVENT_COMMIT_SUB) {
        foreach (cell, watched) {
            auto *watch = static_cast<Watch *>(lfirst(cell));
            if (watch->subtransaction == mine)
                watch->subtransaction = parent;
        }
    }
}

void transaction_ended(XactEvent event, void *) {
    if (event == XACT_EVENT_ABORT)
        watched = NIL;
}

Watch *find_watch(Oid relid) {
    ListCell *cell;
    foreach (cell, watched)
        if (static_cast<Watch *>(lfirst(cell))->table->relid == relid)
            return static_cast<Watch *>(lfirst(cell));
    return nullptr;
}

// ---------------------------------------------------------------- what has become of a table

void check_distribution_column_stays(const TableDiff *diff) {
    AttrNumber number = diff->table->distribution_attribute;
    if (number == InvalidAttrNumber)
        return;
    const ColumnImage *before = find_column(diff->before, number);
    const ColumnImage *after = find_column(diff->after, number);
    if (after == nullptr || before->type != after->type || before->collation != after->collation)
        refuse_on_table(diff->table->relid,
                        psprintf("changing the type of distribution column \"%s\"", before->name),
                        "Rows are in shards by the hash of that type: create a new table, "
                        "distribute it, and copy the rows with INSERT ... SELECT.");
}

// ALTER TYPE makes a foreign key anew, and would check it here, where there are no rows.
void check_foreign_key_columns(const TableDiff *diff) {
    ListCell *cell;
    foreach (cell, diff->after->constraints) {
        auto *key = static_cast<const ConstraintImage *>(lfirst(cell));
        if (key->type == CONSTRAINT_FOREIGN)
            check_foreign_key(diff->table, key->oid);
    }
}

void check_new_indexes(const TableDiff *diff) {
    ListCell *cell;
    foreach (cell, diff->after->indexes) {
        auto *index = static_cast<const IndexImage *>(lfirst(cell));
        bool known = false;
        ListCell *other;
        foreach (other, diff->before->indexes)
            known |= static_cast<IndexImage *>(lfirst(other))->oid == index->oid;
        if (!known)
            check_unique_index(diff->relation, index->oid, diff->table->distribution_attribute);
    }
}

void check_policies(const TableImage *image) {
    ListCell *cell;
    foreach (cell, image->policies) {
        auto *policy = static_cast<const ObjectImage *>(lfirst(cell));
        if (policy->has_subquery)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("policy \"%s\" of distributed table \"%s\" must not have a subquery",
                            policy->name, image->name),
                     errdetail("The nodes, which apply it to the rows of each shard, do not have "
                               "the other table."),
                     errhint("Compare a column with a setting of the session, "
                             "current_setting('app.tenant'), or with current_user.")));
    }
}

// What create_distributed_table() gives the shards before there are rows: the rest is the
// difference to the table as it is.
TableImage *image_without_rest(const TableImage *image) {
    auto *start = palloc_object(TableImage);
    *start = *image;
    start->row_security = start->force_row_security = false;
    start->replica_identity = REPLICA_IDENTITY_DEFAULT;
    start->policies = start->statistics = start->columns = start->indexes = start->constraints =
        NIL;
    ListCell *cell;
    foreach (cell, image->columns) {
        auto *column = palloc_object(ColumnImage);
        *column = *static_cast<const ColumnImage *>(lfirst(cell));
        column->options = "";
        start->columns = lappend(start->columns, column);
    }
    foreach (cell, image->indexes) {
        auto *index = palloc_object(IndexImage);
        *index = *static_cast<const IndexImage *>(lfirst(cell));
        index->replica_identity = false; // a shell, and so a shard, is not clustered
        index->statistics = NIL;
        for (int i = 0; i < list_length(static_cast<IndexImage *>(lfirst(cell))->statistics); i++)
            index->statistics = lappend_int(index->statistics, -1);
        start->indexes = lappend(start->indexes, index);
    }
    foreach (cell, image->constraints) {
        auto *constraint = static_cast<ConstraintImage *>(lfirst(cell));
        if (constraint->type != CONSTRAINT_FOREIGN &&
            (constraint->type != CONSTRAINT_CHECK || constraint->valid))
            start->constraints = lappend(start->constraints, constraint);
    }
    return start;
}

TableDiff *compare(const Watch *watch) {
    Relation relation = try_relation_open(watch->table->relid, AccessShareLock);
    if (relation == nullptr) // dropped
        return nullptr;
    auto *diff = palloc0_object(TableDiff);
    diff->table = watch->table;
    diff->relation = relation;
    diff->before = watch->before;
    diff->after = take_image(relation);
    diff->changes = watch->changes;
    check_distribution_column_stays(diff);
    check_new_indexes(diff);
    check_foreign_key_columns(diff);
    check_policies(diff->after);
    note_new_columns(diff);
    return diff;
}

void send_step(NodeBatch *batch, const TableDiff *diff, DiffStep step) {
    for (int i = 0; i < diff->table->shard_count; i++) {
        const Shard *shard = &diff->table->shards[i];
        List *commands = diff_commands(diff, step, i);
        for (int j = 0; j < shard->placement_count; j++) {
            ListCell *cell;
            foreach (cell, commands)
                batch_send(batch, shard->placements[j].node_id, static_cast<char *>(lfirst(cell)));
        }
    }
}

} // namespace

void watch_table(const DistributedTable *table) {
    if (is_watched(table->relid))
        return;
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    int level = enter_qualified_names();
    Relation relation = relation_open(table->relid, AccessShareLock);
    auto *watch = palloc0_object(Watch);
    watch->table = table;
    watch->before = take_image(relation);
    watch->subtransaction = GetCurrentSubTransactionId();
    watched = lappend(watched, watch);
    relation_close(relation, NoLock);
    leave_qualified_names(level);
    MemoryContextSwitchTo(caller);
}

bool is_watched(Oid relid) {
    return find_watch(relid) != nullptr;
}

void note_column_change(Oid relid, const ColumnChange *change) {
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    auto *copy = palloc_object(ColumnChange);
    *copy = *change;
    if (change->conversion != nullptr)
        copy->conversion = pstrdup(change->conversion);
    Watch *watch = find_watch(relid);
    watch->changes = lappend(watch->changes, copy);
    MemoryContextSwitchTo(caller);
}

int begin_watching() {
    return list_length(watched);
}

void settle_watched(int mark) {
    if (list_length(watched) <= mark)
        return;
    CommandCounterIncrement();
    int level = enter_qualified_names();
    List *diffs = NIL;
    for (int i = mark; i < list_length(watched); i++)
        if (TableDiff *diff = compare(static_cast<Watch *>(list_nth(watched, i))))
            diffs = lappend(diffs, diff);
    watched = list_truncate(watched, mark);

    NodeBatch batch;
    ListCell *cell;
    foreach (cell, diffs) {
        Relation relation = static_cast<TableDiff *>(lfirst(cell))->relation;
        create_on_nodes(objects_needed_by_table(relation), relation);
    }
    for (DiffStep step :
         {DiffStep::kDropForeignKeys, DiffStep::kDefinition, DiffStep::kAddForeignKeys})
        foreach (cell, diffs)
            send_step(&batch, static_cast<TableDiff *>(lfirst(cell)), step);
    batch_finish(&batch);
    foreach (cell, diffs) {
        auto *diff = static_cast<TableDiff *>(lfirst(cell));
        relation_close(diff->relation, NoLock);
        clear_freeze_horizon(diff->table->relid);
    }
    leave_qualified_names(level);
}

void finish_shards(const DistributedTable *table, Relation relation) {
    TableDiff diff = {};
    diff.table = table;
    diff.relation = relation;
    diff.after = take_image(relation);
    diff.before = image_without_rest(diff.after);
    check_policies(diff.after);
    NodeBatch batch;
    send_step(&batch, &diff, DiffStep::kDefinition);
    send_step(&batch, &diff, DiffStep::kAddForeignKeys);
    batch_finish(&batch);
}

void init_watch() {
    RegisterXactCallback(transaction_ended, nullptr);
    RegisterSubXactCallback(subtransaction_ended, nullptr);
}

} // namespace panvel
