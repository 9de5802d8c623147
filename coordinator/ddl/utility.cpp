// The hooks: each utility statement is looked at once, handled if it is about a distributed
// table, and passed on. What changes a distributed table in a way nobody thought of meets the
// object access hook, which refuses it.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/sample.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/shard_ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

ProcessUtility_hook_type next_process_utility = nullptr;
object_access_hook_type next_object_access = nullptr;

// A statement under way that may alter distributed tables locally (SET SCHEMA, defaults).
bool alteration_allowed = false;

// One statement as the hook got it.
struct Utility {
    PlannedStmt *planned;
    const char *query_string;
    bool read_only_tree;
    ProcessUtilityContext context;
    ParamListInfo params;
    QueryEnvironment *environment;
    DestReceiver *destination;
    QueryCompletion *completion;

    Node *statement() const { return planned->utilityStmt; }
    bool is_top_level() const { return context == PROCESS_UTILITY_TOPLEVEL; }
};

void pass_on(const Utility *utility) {
    ProcessUtility_hook_type next =
        next_process_utility != nullptr ? next_process_utility : standard_ProcessUtility;
    next(utility->planned, utility->query_string, utility->read_only_tree, utility->context,
         utility->params, utility->environment, utility->destination, utility->completion);
}

// Same with another statement in its place.
void pass_on_instead(const Utility *utility, Node *statement) {
    Utility changed = *utility;
    changed.planned = static_cast<PlannedStmt *>(copyObjectImpl(utility->planned));
    changed.planned->utilityStmt = statement;
    changed.read_only_tree = false;
    pass_on(&changed);
}

bool extension_exists() {
    return OidIsValid(find_panvel_relation("distributed_table_pkey"));
}

bool has_option(List *options, const char *name) {
    ListCell *cell;
    foreach (cell, options) {
        auto *option = static_cast<DefElem *>(lfirst(cell));
        if (strcmp(option->defname, name) == 0)
            return defGetBoolean(option);
    }
    return false;
}

void process_copy(const Utility *utility) {
    auto *copy = reinterpret_cast<CopyStmt *>(utility->statement());
    const DistributedTable *table = distributed_target(copy->relation);
    if (table == nullptr) {
        pass_on(utility);
        return;
    }
    if (!copy->is_from) {
        pass_on_instead(utility, reinterpret_cast<Node *>(copy_to_as_query(table, copy)));
        return;
    }
    ParseState *pstate = make_parsestate(nullptr);
    pstate->p_sourcetext = utility->query_string;
    pstate->p_queryEnv = utility->environment;
    uint64 rows = copy_from(pstate, copy);
    if (utility->completion != nullptr)
        SetQueryCompletion(utility->completion, CMDTAG_COPY, rows);
    free_parsestate(pstate);
}

void process_create_index(const Utility *utility) {
    auto *index = reinterpret_cast<IndexStmt *>(utility->statement());
    const DistributedTable *table = distributed_target(index->relation);
    if (table == nullptr) {
        pass_on(utility);
        return;
    }
    if (index->concurrent)
        refuse_on_table(table->relid, "CREATE INDEX CONCURRENTLY",
                        "Use CREATE INDEX without CONCURRENTLY; reads go on meanwhile.");
    LockRelationOid(table->relid, ShareLock);
    Relation relation = table_open(table->relid, NoLock);
    List *before = RelationGetIndexList(relation);
    table_close(relation, NoLock);
    pass_on(utility);
    create_indexes_on_shards(table, before);
}

void process_reindex(const Utility *utility) {
    auto *reindex = reinterpret_cast<ReindexStmt *>(utility->statement());
    const DistributedTable *table = distributed_target(reindex->relation);
    if (table != nullptr && has_option(reindex->params, "concurrently"))
        refuse_on_table(table->relid, "REINDEX CONCURRENTLY", "Use REINDEX without CONCURRENTLY.");
    pass_on(utility);
    if (table != nullptr)
        reindex_shards(table, reindex);
}

void process_truncate(const Utility *utility) {
    auto *truncate = reinterpret_cast<TruncateStmt *>(utility->statement());
    List *tables = nullptr;
    ListCell *cell;
    foreach (cell, truncate->relations) {
        const DistributedTable *table = distributed_target(static_cast<RangeVar *>(lfirst(cell)));
        if (table != nullptr)
            tables = list_append_unique_ptr(tables, const_cast<DistributedTable *>(table));
    }
    pass_on(utility);
    truncate_shards(tables);
}

// Column statistics of the shells, by PostgreSQL's own ANALYZE over samples of the shards' rows.
void analyze_shells(const Utility *utility, List *relations, List *samples) {
    VacuumStmt *analyze = makeNode(VacuumStmt);
    offer_samples(samples);
    ListCell *cell;
    foreach (cell, relations)
        if (offered_sample(static_cast<VacuumRelation *>(lfirst(cell))->oid) != nullptr)
            analyze->rels = lappend(analyze->rels, lfirst(cell));
    PG_TRY();
    { pass_on_instead(utility, reinterpret_cast<Node *>(analyze)); }
    PG_FINALLY();
    { offer_samples(NIL); }
    PG_END_TRY();
}

// The distributed ones go to the shards, the others on as before. A VACUUM of the whole database
// passes shells by.
void process_vacuum(const Utility *utility) {
    auto *vacuum = reinterpret_cast<VacuumStmt *>(utility->statement());
    List *local = nullptr;
    List *distributed = nullptr;
    ListCell *cell;
    foreach (cell, vacuum->rels) {
        auto *relation = static_cast<VacuumRelation *>(copyObjectImpl(lfirst(cell)));
        const DistributedTable *table = distributed_target(relation->relation);
        if (table == nullptr) {
            local = lappend(local, relation);
            continue;
        }
        relation->oid = table->relid;
        distributed = lappend(distributed, relation);
    }
    if (distributed == nullptr) {
        pass_on(utility);
        return;
    }
    List *samples = vacuum_shards(distributed, vacuum, utility->is_top_level());
    if (samples != NIL)
        analyze_shells(utility, distributed, samples);
    if (local == nullptr)
        return;
    auto *rest = static_cast<VacuumStmt *>(copyObjectImpl(vacuum));
    rest->rels = local;
    pass_on_instead(utility, reinterpret_cast<Node *>(rest));
}

// Distributed tables that a GRANT is about, as List of DistributedTable *.
List *grant_targets(const GrantStmt *grant) {
    List *tables = nullptr;
    ListCell *cell;
    if (grant->objtype != OBJECT_TABLE)
        return nullptr;
    if (grant->targtype == ACL_TARGET_OBJECT) {
        foreach (cell, grant->objects) {
            const DistributedTable *table =
                distributed_target(static_cast<RangeVar *>(lfirst(cell)));
            if (table != nullptr)
                tables = list_append_unique_ptr(tables, const_cast<DistributedTable *>(table));
        }
    } else if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA) {
        foreach (cell, all_distributed_tables()) {
            char *schema = get_namespace_name(get_rel_namespace(lfirst_oid(cell)));
            ListCell *name;
            foreach (name, grant->objects)
                if (schema != nullptr && strcmp(schema, strVal(lfirst(name))) == 0)
                    tables = lappend(tables, const_cast<DistributedTable *>(
                                                 get_distributed_table(lfirst_oid(cell))));
        }
    }
    return tables;
}

void process_grant(const Utility *utility) {
    List *tables = grant_targets(reinterpret_cast<GrantStmt *>(utility->statement()));
    List *former = nullptr; // List of char * per table
    ListCell *cell;
    foreach (cell, tables) {
        Oid relid = static_cast<DistributedTable *>(lfirst(cell))->relid;
        Relation relation = table_open(relid, ShareUpdateExclusiveLock);
        former = lappend(former, shard_table_roles(relation));
        table_close(relation, NoLock);
    }
    pass_on(utility);
    CommandCounterIncrement();
    ListCell *roles;
    forboth(cell, tables, roles, former) regrant_shards(
        static_cast<DistributedTable *>(lfirst(cell)), static_cast<List *>(lfirst(roles)));
}

void pass_on_altering(const Utility *utility) {
    bool before = alteration_allowed;
    alteration_allowed = true;
    PG_TRY();
    { pass_on(utility); }
    PG_FINALLY();
    { alteration_allowed = before; }
    PG_END_TRY();
}

void process(const Utility *utility) {
    switch (nodeTag(utility->statement())) {
    case T_CopyStmt:
        process_copy(utility);
        break;
    case T_IndexStmt:
        process_create_index(utility);
        break;
    case T_ReindexStmt:
        process_reindex(utility);
        break;
    case T_TruncateStmt:
        process_truncate(utility);
        break;
    case T_VacuumStmt:
        process_vacuum(utility);
        break;
    case T_GrantStmt:
        process_grant(utility);
        break;
    case T_AlterTableStmt:
    case T_AlterObjectSchemaStmt: // shards have a schema of their own
        refuse_unsupported(utility->statement());
        pass_on_altering(utility);
        break;
    default:
        refuse_unsupported(utility->statement());
        pass_on(utility);
        break;
    }
    flush_drops();
}

// Statements that must run without looking at any catalog (a failed transaction has none), and
// those that cannot touch a table.
bool is_none_of_ours(Node *statement) {
    switch (nodeTag(statement)) {
    case T_TransactionStmt:
    case T_VariableSetStmt:
    case T_VariableShowStmt:
    case T_DiscardStmt:
    case T_FetchStmt:
    case T_ClosePortalStmt:
    case T_PrepareStmt:
    case T_ExecuteStmt:
    case T_DeallocateStmt:
    case T_DeclareCursorStmt:
    case T_ListenStmt:
    case T_UnlistenStmt:
    case T_NotifyStmt:
    case T_LoadStmt:
    case T_CheckPointStmt:
    case T_ConstraintsSetStmt:
    case T_DoStmt:
    case T_CallStmt:
    case T_ExplainStmt:
        return true;
    default:
        return false;
    }
}

void process_utility(PlannedStmt *planned, const char *query_string, bool read_only_tree,
                     ProcessUtilityContext context, ParamListInfo params,
                     QueryEnvironment *environment, DestReceiver *destination,
                     QueryCompletion *completion) {
    pg::entry([&] {
        Utility utility = {planned, query_string, read_only_tree, context,
                           params,  environment,  destination,    completion};
        if (is_none_of_ours(planned->utilityStmt) || !IsTransactionState() || !extension_exists())
            pass_on(&utility);
        else
            process(&utility);
    });
}

// ---------------------------------------------------------------- the safety net

// The table that a new row of `catalog` is about, found before the row is visible; `columns` are
// those that name a relation. Invalid: not a distributed one.
Oid distributed_relation_of(Oid catalog, AttrNumber oid_column, Oid oid_index, Oid object_id,
                            std::initializer_list<AttrNumber> columns) {
    Relation relation = table_open(catalog, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, oid_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object_id));
    SysScanDesc scan = systable_beginscan(relation, oid_index, true, SnapshotSelf, 1, &key);
    HeapTuple row = systable_getnext(scan);
    Oid found = InvalidOid;
    if (HeapTupleIsValid(row))
        for (AttrNumber column : columns) {
            bool isnull;
            Oid relid =
                DatumGetObjectId(heap_getattr(row, column, RelationGetDescr(relation), &isnull));
            if (!isnull && OidIsValid(relid) && find_distributed_table(relid) != nullptr)
                found = relid;
        }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return found;
}

const char *const kNotHandledHint =
    "Distributed tables take CREATE and DROP INDEX, TRUNCATE, COPY, VACUUM, ANALYZE, REINDEX, "
    "GRANT and DROP TABLE.";

void created(Oid class_id, Oid object_id) {
    Oid relid = InvalidOid;
    const char *construct = nullptr;
    if (class_id == ConstraintRelationId) {
        relid = distributed_relation_of(
            class_id, Anum_pg_constraint_oid, ConstraintOidIndexId, object_id,
            {Anum_pg_constraint_conrelid, Anum_pg_constraint_confrelid});
        construct = "a new constraint or foreign key";
    } else if (class_id == TriggerRelationId) {
        relid = distributed_relation_of(class_id, Anum_pg_trigger_oid, TriggerOidIndexId, object_id,
                                        {Anum_pg_trigger_tgrelid, Anum_pg_trigger_tgconstrrelid});
        construct = "a trigger or foreign key";
    } else if (class_id == RewriteRelationId) {
        relid = distributed_relation_of(class_id, Anum_pg_rewrite_oid, RewriteOidIndexId, object_id,
                                        {Anum_pg_rewrite_ev_class});
        construct = "a rule";
    }
    if (OidIsValid(relid))
        refuse_on_table(relid, construct, kNotHandledHint);
}

void altered(Oid class_id, Oid object_id, const ObjectAccessPostAlter *alter) {
    if (alteration_allowed || (alter != nullptr && alter->is_internal))
        return;
    const DistributedTable *table = nullptr;
    if (class_id == RelationRelationId) {
        table = distributed_by_relid(object_id);
    } else if (class_id == InheritsRelationId) {
        table = find_distributed_table(object_id);
        if (table == nullptr && alter != nullptr && OidIsValid(alter->auxiliary_id))
            table = find_distributed_table(alter->auxiliary_id);
    }
    if (table != nullptr)
        refuse_on_table(table->relid, "this change", kNotHandledHint);
}

void object_accessed(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id,
                     void *argument) {
    pg::entry([&] {
        if (next_object_access != nullptr)
            next_object_access(access, class_id, object_id, sub_id, argument);
        if (access != OAT_DROP && access != OAT_POST_ALTER && access != OAT_POST_CREATE)
            return;
        if (!IsTransactionState() || shell_conversion_allowed() || !extension_exists())
            return;
        if (access == OAT_DROP)
            note_drop(class_id, object_id, sub_id);
        else if (access == OAT_POST_CREATE)
            created(class_id, object_id);
        else
            altered(class_id, object_id, static_cast<ObjectAccessPostAlter *>(argument));
    });
}

} // namespace

void init_ddl() {
    next_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
    next_object_access = object_access_hook;
    object_access_hook = object_accessed;
    init_drops();
}

} // namespace panvel
