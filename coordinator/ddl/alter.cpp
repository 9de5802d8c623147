// ALTER TABLE before it runs on the shell: each of its actions is one that the shards can follow,
// or the statement is refused as a whole. What they are told comes from the catalog afterwards
// (watch.h).
#include "coordinator/ddl/alter.h"

#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/ddl/new_column.h"
#include "coordinator/ddl/watch.h"

extern "C" {
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

// ---------------------------------------------------------------- what is refused

struct Refusal {
    const char *name;
    const char *hint;
};

// Null for an action that shards can follow.
const Refusal *refusal_of(AlterTableType action) {
    static const Refusal kLogged = {"ALTER TABLE SET LOGGED or UNLOGGED",
                                    "Shards are logged, so that a crash loses nothing."};
    static const Refusal kMethod = {"ALTER TABLE SET ACCESS METHOD", "Shards are heap tables."};
    static const Refusal kTablespace = {
        "SET TABLESPACE", "Nodes have tablespaces of their own: set their default_tablespace "
                          "before panvel.create_distributed_table()."};
    static const Refusal kTrigger = {"enabling or disabling triggers",
                                     "Triggers on distributed tables are not supported."};
    static const Refusal kRule = {"enabling or disabling rules",
                                  "Put a view in front of the table."};
    static const Refusal kInherit = {
        "inheritance", "Use one table: its shards take the place of partitions and children."};
    static const Refusal kCluster = {"ALTER TABLE CLUSTER ON",
                                     "CLUSTER the shards on their nodes, if at all."};
    static const Refusal kType = {"ALTER TABLE OF", "Define the columns one by one."};
    static const Refusal kOther = {"this form of ALTER TABLE",
                                   "Do this before panvel.create_distributed_table()."};
    switch (action) {
    case AT_AddColumn:
    case AT_ColumnDefault:
    case AT_DropNotNull:
    case AT_SetNotNull:
    case AT_DropExpression:
    case AT_SetStatistics:
    case AT_SetOptions:
    case AT_ResetOptions:
    case AT_SetStorage:
    case AT_SetCompression:
    case AT_DropColumn:
    case AT_AddConstraint:
    case AT_AlterConstraint:
    case AT_ValidateConstraint:
    case AT_DropConstraint:
    case AT_AlterColumnType:
    case AT_ChangeOwner:
    case AT_DropCluster:
    case AT_DropOids:
    case AT_SetRelOptions:
    case AT_ResetRelOptions:
    case AT_ReplicaIdentity:
    case AT_EnableRowSecurity:
    case AT_DisableRowSecurity:
    case AT_ForceRowSecurity:
    case AT_NoForceRowSecurity:
    case AT_AddIdentity:
    case AT_SetIdentity:
    case AT_DropIdentity:
        return nullptr;
    case AT_SetLogged:
    case AT_SetUnLogged:
        return &kLogged;
    case AT_ClusterOn: // CLUSTER of a whole database would come to the shell
        return &kCluster;
    case AT_SetAccessMethod:
        return &kMethod;
    case AT_SetTableSpace:
        return &kTablespace;
    case AT_EnableTrig:
    case AT_EnableAlwaysTrig:
    case AT_EnableReplicaTrig:
    case AT_DisableTrig:
    case AT_EnableTrigAll:
    case AT_DisableTrigAll:
    case AT_EnableTrigUser:
    case AT_DisableTrigUser:
        return &kTrigger;
    case AT_EnableRule:
    case AT_EnableAlwaysRule:
    case AT_EnableReplicaRule:
    case AT_DisableRule:
        return &kRule;
    case AT_AddInherit:
    case AT_DropInherit:
    case AT_AttachPartition:
    case AT_DetachPartition:
    case AT_DetachPartitionFinalize:
        return &kInherit;
    case AT_AddOf:
    case AT_DropOf:
        return &kType;
    default:
        return &kOther;
    }
}

// ---------------------------------------------------------------- single actions

struct Alteration {
    const DistributedTable *table;
    Relation relation;
    const char *query_string;
};

bool is_distribution_column(const Alteration *alteration, const char *name) {
    return name != nullptr && alteration->table->distribution_attribute != InvalidAttrNumber &&
           get_attnum(alteration->table->relid, name) == alteration->table->distribution_attribute;
}

// Whether values stay as they are, varchar(10) to varchar(20) for example: then so do their hashes.
bool keeps_values(const Alteration *alteration, const ColumnDef *definition, AttrNumber number) {
    if (definition->raw_default != nullptr || definition->collClause != nullptr)
        return false;
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(alteration->relation), number - 1);
    Oid type;
    int32 typmod;
    typenameTypeIdAndMod(nullptr, definition->typeName, &type, &typmod);
    if (type != column->atttypid)
        return false;
    auto *var = reinterpret_cast<Node *>(
        makeVar(1, number, column->atttypid, column->atttypmod, column->attcollation, 0));
    Node *converted = coerce_to_target_type(nullptr, var, type, type, typmod, COERCION_ASSIGNMENT,
                                            COERCE_IMPLICIT_CAST, -1);
    if (converted == nullptr)
        return false;
    converted = eval_const_expressions(nullptr, converted);
    while (IsA(converted, RelabelType))
        converted = reinterpret_cast<Node *>(castNode(RelabelType, converted)->arg);
    return IsA(converted, Var);
}

void prepare_type_change(const Alteration *alteration, const AlterTableCmd *command) {
    auto *definition = castNode(ColumnDef, command->def);
    AttrNumber number = get_attnum(alteration->table->relid, command->name);
    if (number <= 0) // PostgreSQL's own message follows
        return;
    if (is_distribution_column(alteration, command->name) &&
        !keeps_values(alteration, definition, number))
        refuse_on_table(alteration->table->relid,
                        psprintf("changing the type of distribution column \"%s\"", command->name),
                        "Rows are in shards by the hash of that type: create a new table, "
                        "distribute it, and copy the rows with INSERT ... SELECT.");
    if (is_in_foreign_key(alteration->table->relid, number))
        refuse_on_table(
            alteration->table->relid,
            psprintf("changing the type of column \"%s\" of a foreign key", command->name),
            "Drop the foreign key first, and add it again afterwards.");
    if (definition->raw_default == nullptr)
        return;
    ColumnChange change = {};
    change.column = number;
    change.conversion =
        conversion_text(alteration->relation, definition->raw_default, alteration->query_string);
    note_column_change(alteration->table->relid, &change);
}

// The shards check the rows; here there are none, and PostgreSQL's check would ask for them.
void skip_foreign_key_check(Node *node) {
    auto *constraint = castNode(Constraint, node);
    if (constraint->contype == CONSTR_FOREIGN)
        constraint->skip_validation = true;
}

void prepare_new_column(AlterTableCmd *command) {
    ListCell *cell;
    foreach (cell, castNode(ColumnDef, command->def)->constraints)
        skip_foreign_key_check(static_cast<Node *>(lfirst(cell)));
}

// True when the action has been done: a foreign key that the shards will validate.
bool validate_foreign_key(const Alteration *alteration, const AlterTableCmd *command) {
    Oid constraint = get_relation_constraint_oid(alteration->table->relid, command->name, true);
    if (!OidIsValid(constraint))
        return false;
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
    bool is_foreign_key =
        reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple))->contype == CONSTRAINT_FOREIGN;
    ReleaseSysCache(tuple);
    if (is_foreign_key)
        mark_foreign_key_valid(constraint);
    return is_foreign_key;
}

// A shell has no TOAST table that could keep them.
void refuse_toast_options(const Alteration *alteration, const AlterTableCmd *command) {
    ListCell *cell;
    foreach (cell, castNode(List, command->def))
        if (lfirst_node(DefElem, cell)->defnamespace != nullptr)
            refuse_on_table(alteration->table->relid, "changing storage parameters of TOAST",
                            "Set them before panvel.create_distributed_table().");
}

// Returns whether PostgreSQL has still to do it on the shell.
bool prepare_action(const Alteration *alteration, AlterTableCmd *command) {
    const Refusal *refusal = refusal_of(command->subtype);
    if (refusal != nullptr)
        refuse_on_table(alteration->table->relid, refusal->name, refusal->hint);
    switch (command->subtype) {
    case AT_SetRelOptions:
    case AT_ResetRelOptions:
        refuse_toast_options(alteration, command);
        return true;
    case AT_DropColumn:
        if (is_distribution_column(alteration, command->name))
            refuse_distribution_column_drop(alteration->table);
        return true;
    case AT_AlterColumnType:
        prepare_type_change(alteration, command);
        return true;
    case AT_AddColumn:
        prepare_new_column(command);
        return true;
    case AT_AddConstraint:
        skip_foreign_key_check(command->def);
        return true;
    case AT_ValidateConstraint:
        return !validate_foreign_key(alteration, command);
    default:
        return true;
    }
}

} // namespace

void refuse_distribution_column_drop(const DistributedTable *table) {
    refuse_on_table(table->relid,
                    psprintf("dropping distribution column \"%s\"",
                             get_attname(table->relid, table->distribution_attribute, false)),
                    "Create a table without it, distribute it by another column, and copy the "
                    "rows with INSERT ... SELECT.");
}

const DistributedTable *watch_target(const RangeVar *name, LOCKMODE lockmode) {
    const DistributedTable *table = distributed_target(name);
    if (table == nullptr)
        return nullptr;
    if (!pg_class_ownercheck(table->relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(table->relid));
    LockRelationOid(table->relid, lockmode);
    // What the name means may have changed while the lock was waited for.
    table = distributed_target(name);
    if (table != nullptr) {
        LockRelationOid(table->relid, lockmode);
        watch_table(table);
    }
    return table;
}

AlterTableStmt *prepare_alter_table(const AlterTableStmt *statement, const char *query_string) {
    auto *copy = static_cast<AlterTableStmt *>(copyObjectImpl(statement));
    LOCKMODE lockmode = AlterTableGetLockLevel(copy->cmds);
    const DistributedTable *table = watch_target(copy->relation, lockmode);
    if (table == nullptr)
        return copy;
    Alteration alteration = {table, table_open(table->relid, NoLock), query_string};
    List *left = NIL;
    ListCell *cell;
    foreach (cell, copy->cmds)
        if (prepare_action(&alteration, static_cast<AlterTableCmd *>(lfirst(cell))))
            left = lappend(left, lfirst(cell));
    table_close(alteration.relation, NoLock);
    copy->cmds = left;
    return copy;
}

} // namespace panvel
