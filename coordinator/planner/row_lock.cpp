// SELECT ... FOR UPDATE, FOR SHARE and their weaker forms: the shards lock the rows that they send.
#include "coordinator/planner/scan_internal.h"

extern "C" {
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

[[noreturn]] void refuse(Oid relid, const char *reason) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("SELECT FOR UPDATE/SHARE %s is not supported on distributed table "
                           "\"%s\"",
                           reason, get_rel_name(relid)),
                    errhint("Lock the rows by a query of their own, on the table alone and with "
                            "conditions that the nodes can evaluate, or run the UPDATE itself.")));
    pg_unreachable();
}

const char *strength_name(LockClauseStrength strength) {
    switch (strength) {
    case LCS_FORKEYSHARE:
        return "KEY SHARE";
    case LCS_FORSHARE:
        return "SHARE";
    case LCS_FORNOKEYUPDATE:
        return "NO KEY UPDATE";
    default:
        return "UPDATE";
    }
}

const char *wait_clause(LockWaitPolicy policy) {
    switch (policy) {
    case LockWaitSkip:
        return " SKIP LOCKED";
    case LockWaitError:
        return " NOWAIT";
    default:
        return "";
    }
}

} // namespace

void check_row_lock(const Query *query, Index index, Oid relid) {
    if (get_parse_rowmark(const_cast<Query *>(query), index) == nullptr)
        return;
    List *from = query->jointree->fromlist;
    if (list_length(from) != 1 || !IsA(linitial(from), RangeTblRef))
        refuse(relid, "of a join");
}

const char *take_row_lock(PlannerInfo *root, RelOptInfo *rel) {
    const RowMarkClause *mark = get_parse_rowmark(root->parse, rel->relid);
    if (mark == nullptr)
        return "";
    Oid relid = planner_rt_fetch(rel->relid, root)->relid;
    if (!bms_equal(rel->relids, root->all_baserels))
        refuse(relid, "of a join or with a subquery in WHERE");
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (!clause->pseudoconstant && !is_remote_clause(rel, clause))
            refuse(relid, "with a condition that the nodes cannot evaluate");
    }
    const char *lock =
        psprintf("FOR %s OF t%s", strength_name(mark->strength), wait_clause(mark->waitPolicy));
    root->parse->rowMarks = NIL;
    root->rowMarks = NIL;
    return lock;
}

} // namespace panvel
