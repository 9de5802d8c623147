// The text of a whole query or statement, for any shard. PostgreSQL's own deparser prints it from
// the tree that the parser made; the tables are named by marks until then, so that the shard's
// schema can take their place.
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
#include "parser/parsetree.h"
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

struct Parameterize {
    ShippedParams *params;
    bool conditional; // the part may not be evaluated at all
    bool delayed;     // inside a part that must not be evaluated before it is asked for
};

// Whether the query may ask for a part of the expression and not for another. The arguments of AND
// in WHERE PostgreSQL takes in any order.
bool chooses(Node *node) {
    return IsA(node, CaseExpr) || IsA(node, CoalesceExpr) ||
           (IsA(node, BoolExpr) && castNode(BoolExpr, node)->boolop == OR_EXPR);
}

// Values become parameters; what the nodes can compute from them stays an expression, so that it is
// computed only where the query asks for it.
Node *parameterize_mutator(Node *node, Parameterize *outer) {
    if (node == nullptr || is_part_of_shape(node))
        return node;
    Parameterize inner = *outer;
    Parameterize *params = &inner;
    if (IsA(node, Query))
        return reinterpret_cast<Node *>(query_tree_mutator(
            castNode(Query, node), pg::mutator(parameterize_mutator), params, 0));
    if (is_known_value(node)) {
        if (IsA(node, Const) || IsA(node, Param) || needs_coordinator(node)) {
            Node *param = make_shipped_param(reinterpret_cast<Expr *>(node), params->params);
            return inner.delayed && !IsA(node, Const) ? make_unknown(param) : param;
        }
        inner.delayed |= inner.conditional && may_raise(node);
    }
    inner.conditional |= chooses(node);
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
        bool is_target = foreach_current_index(cell) + 1 == query->resultRelation;
        if (entry->rtekind == RTE_RELATION && entry->relkind == RELKIND_RELATION && !is_target)
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

// ------------------------------------------------------------------ statements that write

const char *const kUpdate = "UPDATE ";
const char *const kDelete = "DELETE FROM ";
const char *const kOnly = "ONLY ";

// The target's name is the coordinator's; null unless it is where it must be.
char *mark_target(const char *text, Oid relid, const char *command, Marking *marking) {
    const char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
                                                  get_rel_name(relid));
    if (strncmp(text, command, strlen(command)) != 0)
        return nullptr;
    const char *place = text + strlen(command);
    if (strncmp(place, kOnly, strlen(kOnly)) == 0)
        place += strlen(kOnly);
    const char *rest = place + strlen(name);
    if (strncmp(place, name, strlen(name)) != 0 ||
        (*rest != '\0' && isspace(static_cast<unsigned char>(*rest)) == 0))
        return nullptr;
    marking->count++;
    return psprintf("%s%s%s", command, quote_identifier(mark_of(marking->number, relid)), rest);
}

// INSERT ... SELECT: the values of all columns, defaults among them, are in the target list, which
// PostgreSQL would not print.
char *print_insert(Query *query, Marking *marking) {
    RangeTblEntry *target = rt_fetch(query->resultRelation, query->rtable);
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfo(&text, "INSERT INTO %s (",
                     quote_identifier(mark_of(marking->number, target->relid)));
    marking->count++;
    ListCell *cell;
    foreach (cell, query->targetList) {
        auto *entry = lfirst_node(TargetEntry, cell);
        appendStringInfo(&text, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
                         quote_identifier(get_attname(target->relid, entry->resno, false)));
        entry->resno = static_cast<AttrNumber>(foreach_current_index(cell) + 1);
        entry->resname = nullptr;
        // The shard's INSERT casts to the column's type, too; a cast in the text would be an
        // explicit one, which cuts a string that is too long.
        entry->expr = reinterpret_cast<Expr *>(
            strip_implicit_coercions(reinterpret_cast<Node *>(entry->expr)));
    }
    target->rtekind = RTE_RESULT;
    foreach (cell, query->rtable) // else it is not printed
        lfirst_node(RangeTblEntry, cell)->inFromCl = true;
    query->commandType = CMD_SELECT;
    query->resultRelation = 0;
    appendStringInfo(&text, ") OVERRIDING SYSTEM VALUE %s", print(query));
    if (query->onConflict != nullptr)
        appendStringInfoString(&text, " ON CONFLICT DO NOTHING");
    return text.data;
}

char *print_statement(Query *query, Marking *marking) {
    if (query->commandType == CMD_SELECT)
        return print(query);
    if (query->commandType == CMD_INSERT)
        return print_insert(query, marking);
    return mark_target(print(query), rt_fetch(query->resultRelation, query->rtable)->relid,
                       query->commandType == CMD_UPDATE ? kUpdate : kDelete, marking);
}

// ------------------------------------------------------------------ pieces

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
    Parameterize context = {&shipped, false, false};
    auto *parameterized =
        castNode(Query, parameterize_mutator(reinterpret_cast<Node *>(const_cast<Query *>(query)),
                                             &context));
    *params = shipped.exprs;
    if (list_length(shipped.exprs) > kMaxParams)
        return NIL;
    // Something of the user's may be called as a mark is.
    for (int number = 0; number < 10; number++) {
        Marking marking = {number, 0};
        auto *marked = static_cast<Query *>(copyObjectImpl(parameterized));
        mark_walker(reinterpret_cast<Node *>(marked), &marking);
        const char *printed = print_statement(marked, &marking);
        List *text = printed != nullptr ? split(printed, marking) : NIL;
        if (text != NIL)
            return text;
    }
    return NIL;
}

} // namespace panvel
