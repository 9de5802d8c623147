// Planning INSERT, UPDATE and DELETE on distributed tables.
//
// PostgreSQL plans the statement as for any table. At the last stage, which every query level
// with a data-modifying command passes, its ModifyTable over a distributed table is replaced by a
// CustomScan: over the same child plan for INSERT, over nothing for UPDATE and DELETE whose
// filter and new values the shards can evaluate, over the same child plan again for those whose
// they cannot (modify_rows.h).
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/extensible.h"
#include "nodes/plannodes.h"
}

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/ship.h"

namespace panvel {

struct ModifyPlan;

// An action of MERGE. Its columns go to the shards as arrays, as for UPDATE and DELETE by rows.
struct RowAction {
    bool matched;
    CmdType operation; // CMD_NOTHING: DO NOTHING
    const char *command;
    const char *tail;
    List *sent;  // columns of `columns`, from 1 (integer List)
    int key;     // of INSERT the distribution column among `columns`, of UPDATE its new value; or 0
    List *quals; // all must be true
    List *columns;        // TargetEntry *: the new row; the new values; then what names the row
    ModifyPlan *followed; // of it only what is about followers and the journal
};

// What the executor needs of the plan. A statement for one shard is
//     command || the shard's table || tail
struct ModifyPlan {
    CmdType operation;
    bool can_set_tag;    // counts for the command tag
    const char *command; // "INSERT INTO ", "UPDATE ", "DELETE FROM "
    const char *tail;

    List *returned; // attribute numbers the shards return (integer List); NIL: nothing is
    List *images;   // a replicated table's leader returns these after them: for the followers
    List *params;   // List of Expr: parameters of the statement, after those of an INSERT's row

    // A follower's statement for the images of one row, and for arrays of many. Null: it gets the
    // leader's statement.
    const char *apply_command;
    const char *apply_one;
    const char *apply_many;
    // What the leader's journal gets for images when a placement is out of sync, likewise; the last
    // parameter is an array of node_id.
    const char *journal_one;
    const char *journal_many;

    // A statement that goes to the shards as it is written (whole_modify.h): between these pieces
    // (String) belongs the shard's schema. NIL: `command` and `tail`. RETURNING's columns are those
    // of the plan.
    List *whole;

    // UPDATE, DELETE
    PruneKey *prune;    // null: all shards
    Expr *assigned_key; // what UPDATE sets the distribution column to, or null; must equal `prune`
    bool no_rows;       // the filter is false for every row

    // INSERT: parameters are the row's columns `sent`, in this order; `tail` takes one row,
    // `tail_many` an array per column.
    List *sent; // attribute numbers (integer List)
    const char *tail_many;
    OnConflictAction on_conflict;

    // UPDATE, DELETE by rows (modify_rows.h): the child plan's rows name the rows to change. `tail`
    // takes an array for each of the columns `sent` of the child's rows (from 1, as those below).
    bool by_rows;
    int ctid; // with xmin: the version of the row that was read
    int xmin;
    int key;          // the distribution column, which tells the shard; 0: reference table
    int new_key;      // what the distribution column is assigned; 0: nothing
    List *actions;    // of MERGE: RowAction *
    List *from_child; // RETURNING: columns of the child's rows (coordinator/executor/returning.h)
};

// An INSERT ... ON CONFLICT DO UPDATE by rows: the shards say which rows they found, and `actions`
// has the UPDATE of those.
inline bool finds_conflicts(const ModifyPlan *plan) {
    return plan->operation == CMD_INSERT && plan->actions != NIL;
}

// Into a CustomScan's custom_private and custom_exprs, and back.
void store_modify_plan(CustomScan *scan, const ModifyPlan *plan);
ModifyPlan *modify_plan_of(CustomScan *scan);

// Executor methods of the nodes (coordinator/executor).
extern const CustomScanMethods insert_scan_methods;
extern const CustomScanMethods insert_select_scan_methods; // that the shards do by themselves
extern const CustomScanMethods upsert_rows_scan_methods;
extern const CustomScanMethods update_scan_methods;
extern const CustomScanMethods delete_scan_methods;
extern const CustomScanMethods update_rows_scan_methods;
extern const CustomScanMethods delete_rows_scan_methods;
extern const CustomScanMethods merge_scan_methods;

// Refuses `construct` (0A000) on the table.
[[noreturn]] void refuse_modification(Oid relid, const char *construct, const char *hint);

// The same for an UPDATE that would move a row to another shard.
[[noreturn]] void refuse_key_update(const DistributedTable *table);

void init_modify_planner(); // hook and node registration; from _PG_init

} // namespace panvel
