// The text of a join for one shard.
#include "coordinator/planner/join.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

class JoinText {
  public:
    JoinText(PlannerInfo *root, const RemoteRel *rel, ShippedParams *params)
        : root_(root), relids_(rel->relids), params_(params) {
        initStringInfo(&text_);
    }

    List *statement(const RemoteRel *rel, List *columns) {
        appendStringInfoString(&text_, "SELECT ");
        ListCell *cell;
        foreach (cell, columns) {
            Var *var = lfirst_node(Var, cell);
            Oid relid = planner_rt_fetch(var->varno, root_)->relid;
            appendStringInfo(&text_, "%sr%d.%s AS %s", foreach_current_index(cell) > 0 ? ", " : "",
                             var->varno, quote_identifier(get_attname(relid, var->varattno, false)),
                             joined_column_name(var));
        }
        append_from(rel);
        append_conditions(rel->where, " WHERE ");
        end_piece();
        return pieces_;
    }

  private:
    void end_piece() {
        pieces_ = lappend(pieces_, makeString(pstrdup(text_.data)));
        resetStringInfo(&text_);
    }

    void append_from(const RemoteRel *rel) {
        appendStringInfoString(&text_, " FROM ");
        append_rel(rel);
    }

    void append_rel(const RemoteRel *rel) {
        if (rel->varno != 0) {
            append_table(rel);
        } else if (rel->type == JOIN_SEMI || rel->type == JOIN_ANTI) {
            append_rel(rel->outer); // the rest is a condition
        } else {
            appendStringInfoChar(&text_, '(');
            append_rel(rel->outer);
            appendStringInfoString(&text_, rel->type == JOIN_INNER  ? " CROSS JOIN "
                                           : rel->type == JOIN_LEFT ? " LEFT JOIN "
                                                                    : " FULL JOIN ");
            append_rel(rel->inner);
            if (rel->type != JOIN_INNER) {
                appendStringInfoString(&text_, " ON ");
                if (rel->on == NIL)
                    appendStringInfoString(&text_, "true");
                append_conditions(rel->on, "");
            }
            appendStringInfoChar(&text_, ')');
        }
    }

    void append_table(const RemoteRel *rel) {
        if (rel->table->is_reference)
            appendStringInfoString(&text_, rel->table->shards[0].schema);
        else
            end_piece(); // the shard's schema
        appendStringInfo(&text_, ".%s r%u", quote_identifier(get_rel_name(rel->table->relid)),
                         rel->varno);
    }

    void append_conditions(List *conditions, const char *before) {
        ListCell *cell;
        foreach (cell, conditions) {
            appendStringInfoString(&text_, before);
            append_condition(static_cast<const JoinCondition *>(lfirst(cell)));
            before = " AND ";
        }
    }

    void append_condition(const JoinCondition *condition) {
        if (condition->exists == nullptr) {
            appendStringInfoString(&text_,
                                   deparse_for_join(root_, relids_, condition->expr, params_));
            return;
        }
        appendStringInfoString(&text_,
                               condition->negated ? "NOT EXISTS (SELECT" : "EXISTS (SELECT");
        append_from(condition->exists);
        append_conditions(list_concat_copy(condition->exists->where, condition->on), " WHERE ");
        appendStringInfoChar(&text_, ')');
    }

    PlannerInfo *root_;
    Relids relids_;
    ShippedParams *params_;
    StringInfoData text_;
    List *pieces_ = NIL;
};

void describe(PlannerInfo *root, const RemoteRel *rel, StringInfo text) {
    if (rel->varno != 0) {
        const char *alias = planner_rt_fetch(rel->varno, root)->eref->aliasname;
        const char *name = get_rel_name(rel->table->relid);
        appendStringInfoString(text, quote_identifier(name));
        if (strcmp(alias, name) != 0)
            appendStringInfo(text, " %s", quote_identifier(alias));
        return;
    }
    auto side = [&](const RemoteRel *child, bool parentheses) {
        parentheses &= child->varno == 0;
        appendStringInfoString(text, parentheses ? "(" : "");
        describe(root, child, text);
        appendStringInfoString(text, parentheses ? ")" : "");
    };
    side(rel->outer, false);
    switch (rel->type) {
    case JOIN_INNER:
        appendStringInfoString(text, " JOIN ");
        break;
    case JOIN_LEFT:
        appendStringInfoString(text, " LEFT JOIN ");
        break;
    case JOIN_FULL:
        appendStringInfoString(text, " FULL JOIN ");
        break;
    case JOIN_SEMI:
        appendStringInfoString(text, " SEMI JOIN ");
        break;
    default:
        appendStringInfoString(text, " ANTI JOIN ");
    }
    side(rel->inner, true);
}

// Expressions of a conjunction, without those inside EXISTS.
List *expressions(List *conditions) {
    List *exprs = NIL;
    ListCell *cell;
    foreach (cell, conditions)
        if (static_cast<JoinCondition *>(lfirst(cell))->expr != nullptr)
            exprs = lappend(exprs, static_cast<JoinCondition *>(lfirst(cell))->expr);
    return exprs;
}

} // namespace

List *join_statement(PlannerInfo *root, const RemoteRel *rel, List *columns,
                     ShippedParams *params) {
    return JoinText(root, rel, params).statement(rel, columns);
}

char *describe_join(PlannerInfo *root, const RemoteRel *rel) {
    StringInfoData text;
    initStringInfo(&text);
    describe(root, rel, &text);
    return text.data;
}

PruneKey *find_join_prune_key(PlannerInfo *root, const RemoteRel *rel) {
    List *quals = expressions(rel->where);
    ListCell *cell;
    foreach (cell, rel->keys)
        if (PruneKey *key =
                find_prune_key(root, rel->relids, static_cast<Index>(lfirst_int(cell)), quals))
            return key;
    return nullptr;
}

} // namespace panvel
