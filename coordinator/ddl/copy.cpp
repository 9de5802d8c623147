// COPY on a distributed table. The input is read by PostgreSQL's own COPY parser, so that formats,
// options, messages and line numbers are the same as ever; the rows go to the shards.
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/shard_loader.h"

#include "coordinator/replication/membership.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/copy.h"
#include "commands/copyfrom_internal.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/backend_progress.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

void check_source_rights(const CopyStmt *statement) {
    if (statement->filename == nullptr)
        return;
    Oid role = statement->is_program ? ROLE_PG_EXECUTE_SERVER_PROGRAM : ROLE_PG_READ_SERVER_FILES;
    if (has_privs_of_role(GetUserId(), role))
        return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("must be superuser or have privileges of role %s to COPY from %s",
                           GetUserNameFromId(role, false),
                           statement->is_program ? "a program" : "a file on the server"),
                    errhint("Anyone can COPY from stdin; psql's \\copy does so.")));
}

void check_insert_rights(Relation relation, List *columns) {
    Oid relid = RelationGetRelid(relation);
    if (pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) == ACLCHECK_OK)
        return;
    ListCell *cell;
    foreach (cell, columns)
        if (pg_attribute_aclcheck(relid, static_cast<AttrNumber>(lfirst_int(cell)), GetUserId(),
                                  ACL_INSERT) != ACLCHECK_OK)
            aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(relation));
}

// The WHERE clause as an implicitly ANDed List; null when there is none. Generated columns have
// no values yet when rows are filtered.
List *analyze_where(ParseState *pstate, Relation relation, ParseNamespaceItem *item, Node *where) {
    if (where == nullptr)
        return nullptr;
    addNSItemToQuery(pstate, item, false, true, true);
    Node *condition = transformExpr(pstate, where, EXPR_KIND_COPY_WHERE);
    condition = coerce_to_boolean(pstate, condition, "WHERE");
    assign_expr_collations(pstate, condition);

    Bitmapset *used = nullptr;
    pull_varattnos(condition, 1, &used);
    TupleDesc columns = RelationGetDescr(relation);
    bool whole_row = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attgenerated != '\0' &&
            (whole_row || bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, used)))
            ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
                            errmsg("COPY FROM cannot filter by generated column \"%s\"",
                                   NameStr(column->attname)),
                            errdetail("Its values are computed after the filter.")));
    }
    condition = eval_const_expressions(nullptr, condition);
    condition =
        reinterpret_cast<Node *>(canonicalize_qual(reinterpret_cast<Expr *>(condition), false));
    return make_ands_implicit(reinterpret_cast<Expr *>(condition));
}

// The input and what evaluates its rows.
struct CopyInput {
    CopyFromState state;
    EState *estate;
    ResultRelInfo *target;
    TupleTableSlot *slot;
    ExprState *where; // null: all rows
    int64 excluded;   // rows that it has left out
    bool has_generated;
};

CopyInput begin_input(ParseState *pstate, Relation relation, RangeTblEntry *rte, List *where,
                      const CopyStmt *statement) {
    CopyInput input = {};
    input.state =
        BeginCopyFrom(pstate, relation, reinterpret_cast<Node *>(where), statement->filename,
                      statement->is_program, nullptr, statement->attlist, statement->options);
    if (input.state->opts.freeze)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("COPY FREEZE is not supported on distributed tables"),
                        errhint("Leave FREEZE out, and run VACUUM (FREEZE) afterwards.")));
    input.estate = CreateExecutorState();
    ExecInitRangeTable(input.estate, list_make1(rte));
    input.target = makeNode(ResultRelInfo);
    InitResultRelInfo(input.target, relation, 1, nullptr, 0);
    input.slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
    if (where != nullptr)
        input.where = ExecInitQual(where, nullptr);
    const TupleConstr *constraints = RelationGetDescr(relation)->constr;
    input.has_generated = constraints != nullptr && constraints->has_generated_stored;
    return input;
}

// Reads the next row that the filter keeps into input->slot, with defaults; false at the end.
// Allocates in the per-tuple memory context, which it resets first.
bool next_row(CopyInput *input) {
    ExprContext *context = GetPerTupleExprContext(input->estate);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        ResetPerTupleExprContext(input->estate);
        ExecClearTuple(input->slot);
        MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(input->estate));
        bool found =
            NextCopyFrom(input->state, context, input->slot->tts_values, input->slot->tts_isnull);
        if (found) {
            ExecStoreVirtualTuple(input->slot);
            input->slot->tts_tableOid = RelationGetRelid(input->target->ri_RelationDesc);
            context->ecxt_scantuple = input->slot;
            if (input->where != nullptr && !ExecQual(input->where, context)) {
                MemoryContextSwitchTo(caller);
                pgstat_progress_update_param(PROGRESS_COPY_TUPLES_EXCLUDED, ++input->excluded);
                continue;
            }
        }
        MemoryContextSwitchTo(caller);
        return found;
    }
}

// NOT NULL and CHECK are checked here already, because here the line of the input is known.
void check_constraints(CopyInput *input) {
    if (input->target->ri_RelationDesc->rd_att->constr == nullptr)
        return;
    if (input->has_generated)
        ExecComputeStoredGenerated(input->target, input->estate, input->slot, CMD_INSERT);
    ExecConstraints(input->target, input->slot, input->estate);
}

void end_input(CopyInput *input) {
    ExecDropSingleTupleTableSlot(input->slot);
    FreeExecutorState(input->estate);
    EndCopyFrom(input->state);
}

} // namespace

uint64 copy_from(ParseState *pstate, const CopyStmt *statement) {
    PreventCommandIfReadOnly("COPY FROM");
    PreventCommandIfParallelMode("COPY FROM");
    check_source_rights(statement);
    Relation relation = table_openrv(statement->relation, RowExclusiveLock);
    if (get_distributed_table(RelationGetRelid(relation))->is_reference)
        lock_reference_table(RelationGetRelid(relation));
    const DistributedTable *table =
        exclude_down_nodes(get_distributed_table(RelationGetRelid(relation)));
    List *columns = CopyGetAttnums(RelationGetDescr(relation), relation, statement->attlist);
    check_insert_rights(relation, columns);

    ParseNamespaceItem *item =
        addRangeTableEntryForRelation(pstate, relation, RowExclusiveLock, nullptr, false, false);
    List *where = analyze_where(pstate, relation, item, statement->whereClause);
    CopyInput input = begin_input(pstate, relation, item->p_rte, where, statement);
    ShardLoader *loader = begin_shard_load(table, relation);

    ErrorContextCallback context;
    context.callback = CopyFromErrorCallback;
    context.arg = input.state;
    context.previous = error_context_stack;
    error_context_stack = &context;
    int64 rows = 0;
    while (next_row(&input)) {
        MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(input.estate));
        check_constraints(&input);
        load_row(loader, input.slot->tts_values, input.slot->tts_isnull, input.state->cur_lineno);
        MemoryContextSwitchTo(caller);
        pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED, ++rows);
    }
    error_context_stack = context.previous;

    finish_shard_load(loader);
    end_input(&input);
    table_close(relation, NoLock);
    return static_cast<uint64>(rows);
}

CopyStmt *copy_to_as_query(const DistributedTable *table, const CopyStmt *statement) {
    Relation relation = table_open(table->relid, AccessShareLock);
    // The columns that COPY table TO writes: all but generated ones.
    List *columns = CopyGetAttnums(RelationGetDescr(relation), relation, statement->attlist);
    SelectStmt *select = makeNode(SelectStmt);
    ListCell *cell;
    foreach (cell, columns) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), lfirst_int(cell) - 1);
        ColumnRef *reference = makeNode(ColumnRef);
        reference->fields = list_make1(makeString(pstrdup(NameStr(column->attname))));
        reference->location = -1;
        ResTarget *target = makeNode(ResTarget);
        target->val = reinterpret_cast<Node *>(reference);
        target->location = -1;
        select->targetList = lappend(select->targetList, target);
    }
    select->fromClause = list_make1(makeRangeVar(get_namespace_name(RelationGetNamespace(relation)),
                                                 pstrdup(RelationGetRelationName(relation)), -1));
    table_close(relation, NoLock);

    auto *query = static_cast<CopyStmt *>(copyObjectImpl(statement));
    query->relation = nullptr;
    query->attlist = nullptr;
    query->query = reinterpret_cast<Node *>(select);
    return query;
}

} // namespace panvel
