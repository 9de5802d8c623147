#include "coordinator/ddl/new_column.h"

#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/remote/remote.h"

extern "C" {
#include "catalog/pg_attribute.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
}

namespace panvel {
namespace {

bool has_rows(const DistributedTable *table) {
    bool found = false;
    List *requests = NIL;
    for (int i = 0; i < table->shard_count; i++) {
        RemoteStatement statement = {};
        statement.sql =
            psprintf("SELECT FROM %s LIMIT 1", shard_relation_name(table, &table->shards[i]));
        statement.effect = Effect::kRead;
        requests = lappend(requests, remote_send(read_node(&table->shards[i]), &statement));
    }
    ListCell *cell;
    foreach (cell, requests) {
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        found |= PQntuples(remote_wait(request)) > 0;
        remote_release(request);
    }
    return found;
}

// The value as a literal with its type. Evaluated once, so that all shards get the same.
char *evaluate(Expr *expression, const ColumnImage *column) {
    EState *state = CreateExecutorState();
    ExprState *prepared = ExecPrepareExpr(expression, state);
    bool isnull;
    Datum value = ExecEvalExprSwitchContext(prepared, GetPerTupleExprContext(state), &isnull);
    char *text = pstrdup("NULL");
    if (!isnull) {
        Oid output;
        bool varlena;
        getTypeOutputInfo(column->type, &output, &varlena);
        int level = NewGUCNestLevel();
        set_config_option("extra_float_digits", "3", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                          true, 0, false);
        text = psprintf("%s::%s", quote_literal_cstr(OidOutputFunctionCall(output, value)),
                        column_type(column->type, column->typmod));
        AtEOXact_GUC(true, level);
    }
    FreeExecutorState(state);
    return text;
}

void refuse_volatile_default(const TableDiff *diff, const ColumnImage *column) {
    // With FORCE ROW LEVEL SECURITY a look into the shards might not see the rows.
    if (!diff->before->force_row_security && !has_rows(diff->table))
        return;
    refuse_on_table(
        diff->table->relid,
        psprintf("ADD COLUMN \"%s\" with a default that is computed for each row", column->name),
        "Add the column without a default, fill it with UPDATE, and set the default "
        "with ALTER COLUMN SET DEFAULT.");
}

// The shell has a default for new rows; rows that are there get its value of now.
char *value_for_rows(const TableDiff *diff, const ColumnImage *column) {
    Form_pg_attribute attribute =
        TupleDescAttr(RelationGetDescr(diff->relation), column->number - 1);
    if (attribute->attgenerated != '\0')
        return nullptr;
    if (attribute->attidentity != '\0') {
        refuse_volatile_default(diff, column);
        return nullptr;
    }
    Node *expression = build_column_default(diff->relation, column->number);
    if (expression == nullptr)
        return nullptr;
    if (contain_volatile_functions(expression)) {
        refuse_volatile_default(diff, column);
        return nullptr;
    }
    return evaluate(reinterpret_cast<Expr *>(expression), column);
}

} // namespace

void note_new_columns(TableDiff *diff) {
    ListCell *cell;
    foreach (cell, diff->after->columns) {
        auto *column = static_cast<const ColumnImage *>(lfirst(cell));
        if (find_column(diff->before, column->number) != nullptr)
            continue;
        auto *change = palloc0_object(ColumnChange);
        change->column = column->number;
        change->default_value = value_for_rows(diff, column);
        diff->changes = lappend(diff->changes, change);
    }
}

char *conversion_text(Relation relation, Node *raw, const char *query_string) {
    ParseState *pstate = make_parsestate(nullptr);
    pstate->p_sourcetext = query_string;
    ParseNamespaceItem *item =
        addRangeTableEntryForRelation(pstate, relation, AccessShareLock, nullptr, false, true);
    addNSItemToQuery(pstate, item, false, true, true);
    Node *expression = transformExpr(pstate, static_cast<Node *>(copyObjectImpl(raw)),
                                     EXPR_KIND_ALTER_COL_TRANSFORM);
    assign_expr_collations(pstate, expression);
    free_parsestate(pstate);
    if (contain_volatile_functions(expression))
        refuse_on_table(RelationGetRelid(relation), "ALTER COLUMN TYPE with a volatile USING",
                        "Use an expression that gives the same for the same row.");
    // now() and its kin are evaluated here, once for all shards.
    PlannerInfo *root = makeNode(PlannerInfo);
    root->glob = makeNode(PlannerGlobal);
    expression = estimate_expression_value(root, expression);
    List *context =
        deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation));
    int level = enter_qualified_names();
    char *text = psprintf("(%s)", deparse_expression(expression, context, false, false));
    leave_qualified_names(level);
    return text;
}

} // namespace panvel
