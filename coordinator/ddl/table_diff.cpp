#include "coordinator/ddl/table_diff.h"

#include "coordinator/ddl/shard_ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/relation.h"
#include "access/toast_compression.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// Statements about one shard, in order.
struct Script {
    const TableDiff *diff;
    const Shard *shard;
    const char *table; // its name on the shard, as it is after a rename
    List *commands;
    StringInfoData actions; // of an ALTER TABLE that is being put together
};

void add(Script *script, char *command) {
    script->commands = lappend(script->commands, command);
}

pg_attribute_printf(2, 3) void action(Script *script, const char *format, ...) {
    if (script->actions.len > 0)
        appendStringInfoString(&script->actions, ", ");
    for (;;) {
        va_list arguments;
        va_start(arguments, format);
        int needed = appendStringInfoVA(&script->actions, format, arguments);
        va_end(arguments);
        if (needed == 0)
            return;
        enlargeStringInfo(&script->actions, needed);
    }
}

// The actions so far as one ALTER TABLE.
void end_actions(Script *script) {
    if (script->actions.len > 0)
        add(script, psprintf("ALTER TABLE %s %s", script->table, script->actions.data));
    resetStringInfo(&script->actions);
}

const char *in_schema(const Script *script, const char *name) {
    return quote_qualified_identifier(script->shard->schema, name);
}

// An index that is invalid here was built concurrently, and not to the end: a shard may lack it.
const char *if_exists(const IndexImage *index) {
    return index->valid ? "" : "IF EXISTS ";
}

// ---------------------------------------------------------------- what corresponds to what

bool same_text(const char *a, const char *b) {
    return (a == nullptr) == (b == nullptr) && (a == nullptr || strcmp(a, b) == 0);
}

bool is_same_constraint(const ConstraintImage *a, const ConstraintImage *b) {
    return strcmp(a->name, b->name) == 0 && a->type == b->type &&
           same_text(a->definition, b->definition) && same_text(a->tail, b->tail) &&
           a->referenced == b->referenced;
}

// By OID; or, as ALTER TYPE makes constraints and indexes anew, on the shards as well, by name and
// definition.
const ConstraintImage *counterpart(const List *constraints, const ConstraintImage *constraint) {
    ListCell *cell;
    foreach (cell, constraints)
        if (static_cast<ConstraintImage *>(lfirst(cell))->oid == constraint->oid)
            return static_cast<ConstraintImage *>(lfirst(cell));
    foreach (cell, constraints)
        if (is_same_constraint(static_cast<ConstraintImage *>(lfirst(cell)), constraint))
            return static_cast<ConstraintImage *>(lfirst(cell));
    return nullptr;
}

const IndexImage *index_by_oid(const List *indexes, Oid oid) {
    ListCell *cell;
    foreach (cell, indexes)
        if (static_cast<IndexImage *>(lfirst(cell))->oid == oid)
            return static_cast<IndexImage *>(lfirst(cell));
    return nullptr;
}

const IndexImage *counterpart(const List *indexes, const IndexImage *index) {
    if (const IndexImage *same = index_by_oid(indexes, index->oid))
        return same;
    ListCell *cell;
    foreach (cell, indexes) {
        auto *other = static_cast<IndexImage *>(lfirst(cell));
        if (strcmp(other->name, index->name) == 0 &&
            strcmp(other->definition, index->definition) == 0)
            return other;
    }
    return nullptr;
}

const ObjectImage *counterpart(const List *objects, const ObjectImage *object) {
    ListCell *cell;
    foreach (cell, objects)
        if (static_cast<ObjectImage *>(lfirst(cell))->oid == object->oid)
            return static_cast<ObjectImage *>(lfirst(cell));
    return nullptr;
}

// Calls visit(item) for the items of `from` that have no counterpart in `in`.
template <typename Item, typename Visit>
void each_without_counterpart(const List *from, const List *in, Visit &&visit) {
    ListCell *cell;
    foreach (cell, from) {
        auto *item = static_cast<const Item *>(lfirst(cell));
        if (counterpart(in, item) == nullptr)
            visit(item);
    }
}

// Calls visit(before, after) for those that are in both.
template <typename Item, typename Visit>
void each_pair(const List *before, const List *after, Visit &&visit) {
    ListCell *cell;
    foreach (cell, before) {
        auto *item = static_cast<const Item *>(lfirst(cell));
        if (const Item *other = counterpart(after, item))
            visit(item, other);
    }
}

// ---------------------------------------------------------------- what goes

void drop_foreign_keys(Script *script) {
    const TableDiff *diff = script->diff;
    each_without_counterpart<ConstraintImage>(
        diff->before->constraints, diff->after->constraints, [&](const ConstraintImage *key) {
            if (key->type == CONSTRAINT_FOREIGN)
                action(script, "DROP CONSTRAINT %s", quote_identifier(key->name));
        });
    end_actions(script);
}

void drop_parts(Script *script) {
    const TableImage *before = script->diff->before;
    const TableImage *after = script->diff->after;
    each_without_counterpart<ObjectImage>(
        before->policies, after->policies, [&](const ObjectImage *policy) {
            add(script,
                psprintf("DROP POLICY %s ON %s", quote_identifier(policy->name), script->table));
        });
    each_without_counterpart<ObjectImage>(
        before->statistics, after->statistics, [&](const ObjectImage *statistics) {
            add(script, psprintf("DROP STATISTICS %s", in_schema(script, statistics->name)));
        });
    each_without_counterpart<ConstraintImage>(
        before->constraints, after->constraints, [&](const ConstraintImage *constraint) {
            if (constraint->type != CONSTRAINT_FOREIGN)
                action(script, "DROP CONSTRAINT %s", quote_identifier(constraint->name));
        });
    end_actions(script);
    each_without_counterpart<IndexImage>(
        before->indexes, after->indexes, [&](const IndexImage *index) {
            if (!OidIsValid(index->constraint))
                add(script,
                    psprintf("DROP INDEX %s%s", if_exists(index), in_schema(script, index->name)));
        });
}

// Generated columns first: the others may be what they are generated from.
void drop_columns(Script *script) {
    for (bool generated : {true, false}) {
        ListCell *cell;
        foreach (cell, script->diff->before->columns) {
            auto *column = static_cast<const ColumnImage *>(lfirst(cell));
            if ((column->generated != '\0') == generated &&
                find_column(script->diff->after, column->number) == nullptr)
                action(script, "DROP COLUMN %s", quote_identifier(column->name));
        }
        end_actions(script);
    }
}

// ---------------------------------------------------------------- what has another name

void rename_columns(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->before->columns) {
        auto *column = static_cast<const ColumnImage *>(lfirst(cell));
        const ColumnImage *now = find_column(script->diff->after, column->number);
        if (now != nullptr && strcmp(now->name, column->name) != 0)
            add(script, psprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", script->table,
                                 quote_identifier(column->name), quote_identifier(now->name)));
    }
}

void rename_parts(Script *script) {
    const TableImage *before = script->diff->before;
    const TableImage *after = script->diff->after;
    each_pair<IndexImage>(
        before->indexes, after->indexes, [&](const IndexImage *index, const IndexImage *now) {
            if (strcmp(index->name, now->name) != 0 && !OidIsValid(now->constraint))
                add(script, psprintf("ALTER INDEX %s%s RENAME TO %s", if_exists(index),
                                     in_schema(script, index->name), quote_identifier(now->name)));
        });
    each_pair<ConstraintImage>(
        before->constraints, after->constraints,
        [&](const ConstraintImage *constraint, const ConstraintImage *now) {
            if (strcmp(constraint->name, now->name) != 0)
                add(script,
                    psprintf("ALTER TABLE %s RENAME CONSTRAINT %s TO %s", script->table,
                             quote_identifier(constraint->name), quote_identifier(now->name)));
        });
    each_pair<ObjectImage>(
        before->policies, after->policies, [&](const ObjectImage *policy, const ObjectImage *now) {
            if (strcmp(policy->name, now->name) != 0)
                add(script,
                    psprintf("ALTER POLICY %s ON %s RENAME TO %s", quote_identifier(policy->name),
                             script->table, quote_identifier(now->name)));
        });
    each_pair<ObjectImage>(before->statistics, after->statistics,
                           [&](const ObjectImage *statistics, const ObjectImage *now) {
                               if (strcmp(statistics->name, now->name) != 0)
                                   add(script, psprintf("ALTER STATISTICS %s RENAME TO %s",
                                                        in_schema(script, statistics->name),
                                                        quote_identifier(now->name)));
                           });
}

// ---------------------------------------------------------------- columns

void alter_types(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->after->columns) {
        auto *now = static_cast<const ColumnImage *>(lfirst(cell));
        const ColumnImage *column = find_column(script->diff->before, now->number);
        if (column == nullptr || !type_changed(column, now))
            continue;
        const ColumnChange *change = find_change(script->diff, now->number);
        action(script, "ALTER COLUMN %s TYPE %s", quote_identifier(now->name),
               column_type(now->type, now->typmod));
        if (OidIsValid(now->collation))
            appendStringInfo(&script->actions, " COLLATE %s", qualified_collation(now->collation));
        if (change != nullptr && change->conversion != nullptr)
            appendStringInfo(&script->actions, " USING %s", change->conversion);
    }
    end_actions(script);
}

void add_columns(Script *script) {
    List *added = NIL; // names of those with a default, which shards do not have
    ListCell *cell;
    foreach (cell, script->diff->after->columns) {
        auto *column = static_cast<const ColumnImage *>(lfirst(cell));
        if (find_column(script->diff->before, column->number) != nullptr)
            continue;
        const ColumnChange *change = find_change(script->diff, column->number);
        const char *value = change != nullptr ? change->default_value : nullptr;
        action(script, "ADD COLUMN %s",
               column_definition(script->diff->relation, column->number, value));
        if (value != nullptr)
            added = lappend(added, const_cast<char *>(column->name));
    }
    end_actions(script);
    foreach (cell, added)
        action(script, "ALTER COLUMN %s DROP DEFAULT",
               quote_identifier(static_cast<char *>(lfirst(cell))));
    end_actions(script);
}

// "n_distinct='5'" becomes RESET (n_distinct) before what is valid now is set.
void alter_options(Script *script, const char *what, const char *before, const char *after,
                   const char *names_before) {
    if (strcmp(before, after) == 0)
        return;
    if (before[0] != '\0')
        action(script, "%sRESET (%s)", what, names_before);
    if (after[0] != '\0')
        action(script, "%sSET (%s)", what, after);
}

// The names of "name='value', ..." as relation_options() prints them.
char *option_names(const char *options) {
    StringInfoData names;
    initStringInfo(&names);
    bool quoted = false;
    bool in_value = false;
    for (const char *at = options; *at != '\0'; at++) {
        if (*at == '\'')
            quoted = !quoted;
        else if (!quoted && *at == '=')
            in_value = true;
        else if (!quoted && *at == ',')
            in_value = false;
        if (!quoted && !in_value)
            if (*at != '\'')
                appendStringInfoChar(&names, *at);
    }
    return names.data;
}

// What ALTER TYPE and ADD COLUMN leave as the type has it: what `column` would be without more.
void alter_storage(Script *script, const ColumnImage *column, const ColumnImage *now) {
    const char *name = quote_identifier(now->name);
    bool fresh = column == nullptr || type_changed(column, now);
    char storage = fresh ? get_typstorage(now->type) : column->storage;
    if (storage != now->storage)
        action(script, "ALTER COLUMN %s SET STORAGE %s", name, storage_name(now->storage));
    if (column == nullptr) // ADD COLUMN said it
        return;
    char compression = fresh ? '\0' : column->compression;
    if (compression != now->compression)
        action(script, "ALTER COLUMN %s SET COMPRESSION %s", name,
               CompressionMethodIsValid(now->compression)
                   ? GetCompressionMethodName(now->compression)
                   : "default");
}

void alter_columns(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->after->columns) {
        auto *now = static_cast<const ColumnImage *>(lfirst(cell));
        const ColumnImage *column = find_column(script->diff->before, now->number);
        const char *name = quote_identifier(now->name);
        if (column != nullptr && column->generated != '\0' && now->generated == '\0')
            action(script, "ALTER COLUMN %s DROP EXPRESSION", name);
        if (column != nullptr && column->not_null != now->not_null)
            action(script, "ALTER COLUMN %s %s NOT NULL", name, now->not_null ? "SET" : "DROP");
        alter_storage(script, column, now);
        if ((column != nullptr ? column->statistics : -1) != now->statistics)
            action(script, "ALTER COLUMN %s SET STATISTICS %d", name, now->statistics);
        const char *options = column != nullptr ? column->options : "";
        alter_options(script, psprintf("ALTER COLUMN %s ", name), options, now->options,
                      option_names(options));
    }
    end_actions(script);
}

// ---------------------------------------------------------------- indexes, constraints, objects

const char *deferral(const ConstraintImage *constraint) {
    if (!constraint->deferrable)
        return "NOT DEFERRABLE";
    return constraint->deferred ? "DEFERRABLE INITIALLY DEFERRED"
                                : "DEFERRABLE INITIALLY IMMEDIATE";
}

void add_constraint(Script *script, const ConstraintImage *constraint) {
    const IndexImage *index = index_by_oid(script->diff->before->indexes, constraint->index);
    if (index != nullptr && OidIsValid(constraint->index))
        add(script, psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s USING INDEX %s %s", script->table,
                             quote_identifier(constraint->name),
                             constraint->type == CONSTRAINT_PRIMARY ? "PRIMARY KEY" : "UNIQUE",
                             quote_identifier(index->name), deferral(constraint)));
    else
        add(script, psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s%s", script->table,
                             quote_identifier(constraint->name), constraint->definition,
                             constraint->valid ? "" : " NOT VALID"));
}

void add_indexes_and_constraints(Script *script) {
    const TableImage *before = script->diff->before;
    const TableImage *after = script->diff->after;
    each_without_counterpart<IndexImage>(
        after->indexes, before->indexes, [&](const IndexImage *index) {
            if (!OidIsValid(index->constraint))
                add(script, shard_index_command(index->oid, script->shard->schema));
        });
    each_without_counterpart<ConstraintImage>(after->constraints, before->constraints,
                                              [&](const ConstraintImage *constraint) {
                                                  if (constraint->type != CONSTRAINT_FOREIGN)
                                                      add_constraint(script, constraint);
                                              });
    each_pair<ConstraintImage>(
        before->constraints, after->constraints,
        [&](const ConstraintImage *constraint, const ConstraintImage *now) {
            const char *name = quote_identifier(now->name);
            if (!constraint->valid && now->valid)
                action(script, "VALIDATE CONSTRAINT %s", name);
            if (constraint->deferrable != now->deferrable || constraint->deferred != now->deferred)
                action(script, "ALTER CONSTRAINT %s %s", name, deferral(now));
        });
    end_actions(script);
}

void alter_indexes(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->after->indexes) {
        auto *now = static_cast<const IndexImage *>(lfirst(cell));
        const IndexImage *index = counterpart(script->diff->before->indexes, now);
        const char *name = psprintf("%s%s", if_exists(now), in_schema(script, now->name));
        if (index != nullptr && strcmp(index->options, now->options) != 0) {
            if (index->options[0] != '\0')
                add(script,
                    psprintf("ALTER INDEX %s RESET (%s)", name, option_names(index->options)));
            if (now->options[0] != '\0')
                add(script, psprintf("ALTER INDEX %s SET (%s)", name, now->options));
        }
        ListCell *target;
        foreach (target, now->statistics) {
            int number = foreach_current_index(target);
            int known = index != nullptr ? list_nth_int(index->statistics, number) : -1;
            if (known != lfirst_int(target))
                add(script, psprintf("ALTER INDEX %s ALTER COLUMN %d SET STATISTICS %d", name,
                                     number + 1, lfirst_int(target)));
        }
        if (now->clustered && (index == nullptr || !index->clustered))
            action(script, "CLUSTER ON %s", quote_identifier(now->name));
        else if (index != nullptr && index->clustered && !now->clustered)
            action(script, "SET WITHOUT CLUSTER");
        if (now->replica_identity && (index == nullptr || !index->replica_identity))
            action(script, "REPLICA IDENTITY USING INDEX %s", quote_identifier(now->name));
        end_actions(script);
    }
}

void make_statistics(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->after->statistics) {
        auto *now = static_cast<const ObjectImage *>(lfirst(cell));
        const ObjectImage *known = counterpart(script->diff->before->statistics, now);
        if (known == nullptr)
            add(script, statistics_command(now, script->shard->schema, script->table));
        if ((known != nullptr ? known->target : -1) != now->target)
            add(script, psprintf("ALTER STATISTICS %s SET STATISTICS %d",
                                 in_schema(script, now->name), now->target));
    }
}

void make_policies(Script *script) {
    ListCell *cell;
    foreach (cell, script->diff->after->policies) {
        auto *now = static_cast<const ObjectImage *>(lfirst(cell));
        const ObjectImage *known = counterpart(script->diff->before->policies, now);
        if (known != nullptr && strcmp(known->definition, now->definition) == 0)
            continue;
        const char *name = quote_identifier(now->name);
        if (known != nullptr)
            add(script, psprintf("DROP POLICY %s ON %s", name, script->table));
        add(script, psprintf("CREATE POLICY %s ON %s%s", name, script->table, now->definition));
    }
}

// ---------------------------------------------------------------- the table itself

void alter_table(Script *script) {
    const TableImage *before = script->diff->before;
    const TableImage *after = script->diff->after;
    alter_options(script, "", before->options, after->options, option_names(before->options));
    alter_options(script, "", before->toast_options, after->toast_options,
                  option_names(before->toast_options));
    if (before->row_security != after->row_security)
        action(script, "%s ROW LEVEL SECURITY", after->row_security ? "ENABLE" : "DISABLE");
    if (before->force_row_security != after->force_row_security)
        action(script, "%sFORCE ROW LEVEL SECURITY", after->force_row_security ? "" : "NO ");
    if (before->replica_identity != after->replica_identity &&
        after->replica_identity != REPLICA_IDENTITY_INDEX)
        action(script, "REPLICA IDENTITY %s",
               after->replica_identity == REPLICA_IDENTITY_FULL      ? "FULL"
               : after->replica_identity == REPLICA_IDENTITY_NOTHING ? "NOTHING"
                                                                     : "DEFAULT");
    end_actions(script);
}

// Whether all tables in the shard's schema belong to the role.
bool owns_whole_group(const DistributedTable *table, Oid role) {
    ListCell *cell;
    foreach (cell, colocated_tables(table->colocation_id)) {
        Relation relation = try_relation_open(lfirst_oid(cell), AccessShareLock);
        bool other = relation != nullptr && relation->rd_rel->relowner != role;
        if (relation != nullptr)
            relation_close(relation, AccessShareLock);
        if (other)
            return false;
    }
    return true;
}

// The owner of a table makes its indexes in the schema, and drops the schema with the last table.
void alter_owner(Script *script) {
    if (script->diff->before->owner == script->diff->after->owner)
        return;
    const char *owner = quote_identifier(GetUserNameFromId(script->diff->after->owner, false));
    const char *schema = script->shard->schema;
    add(script, psprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", schema, owner));
    add(script, psprintf("ALTER TABLE %s OWNER TO %s", script->table, owner));
    if (owns_whole_group(script->diff->table, script->diff->after->owner))
        add(script, psprintf("ALTER SCHEMA %s OWNER TO %s", schema, owner));
}

void alter_rights(Script *script) {
    const TableImage *before = script->diff->before;
    const TableImage *after = script->diff->after;
    if (before->owner == after->owner && strcmp(before->rights, after->rights) == 0)
        return;
    StringInfoData grantees;
    initStringInfo(&grantees);
    appendStringInfoString(&grantees, "PUBLIC");
    const char *owner = GetUserNameFromId(after->owner, false);
    ListCell *cell;
    foreach (cell, before->roles)
        if (strcmp(static_cast<char *>(lfirst(cell)), owner) != 0)
            appendStringInfo(&grantees, ", %s",
                             quote_identifier(static_cast<char *>(lfirst(cell))));
    add(script, psprintf("REVOKE ALL ON TABLE %s FROM %s CASCADE", script->table, grantees.data));
    script->commands = list_concat(
        script->commands, shard_grant_commands(script->diff->relation, script->shard->schema));
}

char *foreign_key_command(const DistributedTable *table, const ConstraintImage *key, int shard) {
    const DistributedTable *referenced = get_distributed_table(key->referenced);
    const Shard *target = &referenced->shards[referenced->is_reference ? 0 : shard];
    return psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s%s%s%s",
                    shard_relation_name(table, &table->shards[shard]), quote_identifier(key->name),
                    key->definition, shard_relation_name(referenced, target), key->tail,
                    key->valid ? "" : " NOT VALID");
}

void rename_table(Script *script) {
    const char *before = script->diff->before->name;
    const char *after = script->diff->after->name;
    if (strcmp(before, after) != 0)
        add(script, psprintf("ALTER TABLE %s RENAME TO %s", in_schema(script, before),
                             quote_identifier(after)));
}

} // namespace

bool type_changed(const ColumnImage *before, const ColumnImage *after) {
    return before->type != after->type || before->typmod != after->typmod ||
           before->collation != after->collation;
}

const ColumnChange *find_change(const TableDiff *diff, AttrNumber column) {
    ListCell *cell;
    foreach (cell, diff->changes)
        if (static_cast<ColumnChange *>(lfirst(cell))->column == column)
            return static_cast<ColumnChange *>(lfirst(cell));
    return nullptr;
}

List *diff_commands(const TableDiff *diff, DiffStep step, int shard) {
    Script script = {};
    script.diff = diff;
    script.shard = &diff->table->shards[shard];
    initStringInfo(&script.actions);
    script.table = in_schema(&script, step == DiffStep::kDropForeignKeys ? diff->before->name
                                                                         : diff->after->name);
    switch (step) {
    case DiffStep::kDropForeignKeys:
        drop_foreign_keys(&script);
        break;
    case DiffStep::kDefinition:
        rename_table(&script);
        drop_parts(&script);
        drop_columns(&script);
        rename_columns(&script);
        rename_parts(&script);
        alter_types(&script);
        add_columns(&script);
        alter_columns(&script);
        add_indexes_and_constraints(&script);
        alter_indexes(&script);
        make_statistics(&script);
        make_policies(&script);
        alter_table(&script);
        alter_owner(&script);
        alter_rights(&script);
        break;
    case DiffStep::kAddForeignKeys:
        each_without_counterpart<ConstraintImage>(
            diff->after->constraints, diff->before->constraints, [&](const ConstraintImage *key) {
                if (key->type == CONSTRAINT_FOREIGN)
                    add(&script, foreign_key_command(diff->table, key, shard));
            });
        break;
    }
    return script.commands;
}

} // namespace panvel
