// The text of a whole query, for any shard. PostgreSQL's own deparser prints it from the tree that
// the parser made; the tables are named by marks until then, so that the shard's schema can take
// their place.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/ship_internal.h"
#include "coordinator/planner/whole_query.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
}

namespace panvel {
namespace {

// More than this many constants are no query to be kept prepared for the next ones.
constexpr int kMaxParams = 500;

bool is_part_of_shape(Node *node) {
    if (!IsA(node, Const))
        return false;
    Const *constant = castNode(Const, node);
    return constant->constisnull || constant->consttype == BOOLOID;
}

// Values become parameters; what the nodes can compute from them stays an expression, so that it is
// computed only where the query asks for it.
Node *parameterize_mutator(Node *node, ShippedParams *params) {
    if (node == nullptr || is_part_of_shape(node))
        return node;
    if (IsA(node, Query))
        return reinterpret_cast<Node *>(query_tree_mutator(
            castNode(Query, node), pg::mutator(parameterize_mutator), params, 0));
    if (is_known_value(node) && (IsA(node, Const) || IsA(node, Param) || needs_coordinator(node)))
        return make_shipped_param(reinterpret_cast<Expr *>(node), params);
    if (is_length_coercion(node)) {
        auto *cast = castNode(FuncExpr, node);
        return with_first_argument(
            cast, parameterize_mutator(static_cast<Node *>(linitial(cast->args)), params));
    }
    Node *result = expression_tree_mutator(node, pg::mutator(parameterize_mutator), params);
    // EXTRACT(day FROM x) and its like print only over the constants they were written with.
    if (IsA(result, FuncExpr) && castNode(FuncExpr, result)->funcformat == COERCE_SQL_SYNTAX)
        castNode(FuncExpr, result)->funcformat = COERCE_EXPLICIT_CALL;
    return result;
}

// ------------------------------------------------------------------ tables

struct Marking {
    int number; // tells this query's marks from what else may be in its text
    int count;
};

char *mark_of(int number, Oid relid) {
    return psprintf("panvel %d %u", number, relid);
}

// The columns as they are called now: the names in a view's tree are those of its creation. A
// dropped one has none.
List *column_names(Oid relid) {
    Relation relation = table_open(relid, NoLock);
    TupleDesc columns = RelationGetDescr(relation);
    List *names = NIL;
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        names = lappend(names,
                        makeString(pstrdup(column->attisdropped ? "" : NameStr(column->attname))));
    }
    table_close(relation, NoLock);
    return names;
}

void mark_table(RangeTblEntry *entry, Marking *marking) {
    entry->eref->colnames = column_names(entry->relid);
    entry->rtekind = RTE_CTE;
    entry->ctename = mark_of(marking->number, entry->relid);
    entry->ctelevelsup = 0;
    marking->count++;
}

bool mark_walker(Node *node, Marking *marking) {
    if (node == nullptr)
        return false;
    if (!IsA(node, Query))
        return expression_tree_walker(node, pg::walker(mark_walker), marking);
    Query *query = castNode(Query, node);
    ListCell *cell;
    foreach (cell, query->rtable) {
        auto *entry = lfirst_node(RangeTblEntry, cell);
        if (entry->rtekind == RTE_RELATION && entry->relkind == RELKIND_RELATION)
            mark_table(entry, marking);
    }
    return query_tree_walker(query, pg::walker(mark_walker), marking, 0);
}

char *print(Query *query) {
    int guc_level = NewGUCNestLevel();
    set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                      true, 0, false);
    char *text = pg_get_querydef(query, false);
    AtEOXact_GUC(true, guc_level);
    return text + strspn(text, " ");
}

List *add_piece(List *pieces, const StringInfoData &piece) {
    return lappend(pieces, makeString(pstrdup(piece.data)));
}

// Takes the text apart at its marks; NIL if there are others than were made.
List *split(const char *text, const Marking &marking) {
    const char *prefix = psprintf("\"panvel %d ", marking.number);
    List *pieces = NIL;
    int found = 0;
    StringInfoData piece;
    initStringInfo(&piece);
    while (const char *mark = strstr(text, prefix)) {
        char *end;
        Oid relid = static_cast<Oid>(strtoul(mark + strlen(prefix), &end, 10));
        const DistributedTable *table = find_distributed_table(relid);
        if (*end != '"' || table == nullptr)
            return NIL;
        appendBinaryStringInfo(&piece, text, static_cast<int>(mark - text));
        if (table->is_reference) {
            appendStringInfoString(&piece, table->shards[0].schema);
        } else {
            pieces = add_piece(pieces, piece);
            resetStringInfo(&piece);
        }
        appendStringInfo(&piece, ".%s", quote_identifier(get_rel_name(relid)));
        text = end + 1;
        found++;
    }
    appendStringInfoString(&piece, text);
    return found == marking.count ? add_piece(pieces, piece) : NIL;
}

} // namespace

List *deparse_query(const Query *query, List **params) {
    ShippedParams shipped;
    auto *parameterized =
        castNode(Query, parameterize_mutator(reinterpret_cast<Node *>(const_cast<Query *>(query)),
                                             &shipped));
    *params = shipped.exprs;
    if (list_length(shipped.exprs) > kMaxParams)
        return NIL;
    // Something of the user's may be called as a mark is.
    for (int number = 0; number < 10; number++) {
        Marking marking = {number, 0};
        auto *marked = static_cast<Query *>(copyObjectImpl(parameterized));
        mark_walker(reinterpret_cast<Node *>(marked), &marking);
        if (List *text = split(print(marked), marking))
            return text;
    }
    return NIL;
}

} // namespace panvel
