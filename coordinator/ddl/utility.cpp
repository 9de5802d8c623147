// The hooks: each utility statement is looked at once, handled if it is about a distributed
// table, and passed on. What changes a distributed table in a way nobody thought of meets the
// object access hook, which refuses it.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/distribution_label.h"
#include "coordinator/catalog/sample.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/alter.h"
#include "coordinator/ddl/concurrent_index.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/ddl/watch.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

ProcessUtility_hook_type next_process_utility = nullptr;
object_access_hook_type next_object_access = nullptr;

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

void run_on_shell(const void *utility) {
    pass_on(static_cast<const Utility *>(utility));
}

void process_create_index(const Utility *utility) {
    auto *index = reinterpret_cast<IndexStmt *>(utility->statement());
    if (index->concurrent && distributed_target(index->relation) != nullptr) {
        OnShell on_shell = {run_on_shell, utility};
        create_index_concurrently(index, utility->is_top_level(), &on_shell);
        return;
    }
    // Not ShareLock, which two sessions may have: each would take the other's index for its own.
    watch_target(index->relation, ShareRowExclusiveLock);
    pass_on(utility);
}

void process_reindex(const Utility *utility) {
    auto *reindex = reinterpret_cast<ReindexStmt *>(utility->statement());
    const DistributedTable *table = distributed_target(reindex->relation);
    if (table != nullptr && has_option(reindex->params, "concurrently")) {
        reindex_concurrently(reindex, utility->is_top_level());
        return;
    }
    MemoryContext context = CurrentMemoryContext;
    List *invalid = invalid_indexes(table);
    pass_on(utility);
    MemoryContextSwitchTo(context); // from that of the last of several transactions
    if (table != nullptr)
        reindex_shards(table, reindex, invalid);
    else if (reindex->relation == nullptr)
        reindex_many(reindex, invalid);
}

void process_truncate(const Utility *utility) {
    auto *truncate = reinterpret_cast<TruncateStmt *>(utility->statement());
    List *relids = NIL;
    ListCell *cell;
    foreach (cell, truncate->relations) {
        Oid relid = RangeVarGetRelid(static_cast<RangeVar *>(lfirst(cell)), NoLock, true);
        if (OidIsValid(relid))
            relids = list_append_unique_oid(relids, relid);
    }
    pass_on(utility); // takes the locks, on what CASCADE reaches as well
    for (List *more = relids; truncate->behavior == DROP_CASCADE && more != NIL;) {
        more = heap_truncate_find_FKs(relids);
        relids = list_concat_unique_oid(relids, more);
    }
    List *tables = NIL;
    foreach (cell, relids)
        if (const DistributedTable *table = find_distributed_table(lfirst_oid(cell)))
            tables = lappend(tables, const_cast<DistributedTable *>(table));
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

// Of all distributed tables, for a VACUUM or ANALYZE that names none.
List *all_to_vacuum() {
    List *relations = NIL;
    ListCell *cell;
    foreach (cell, all_distributed_tables())
        relations = lappend(relations, makeVacuumRelation(nullptr, lfirst_oid(cell), NIL));
    return relations;
}

// The distributed ones go to the shards, the others on as before: PostgreSQL, which is to do the
// whole database, passes shells by.
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
    if (vacuum->rels == NIL)
        distributed = all_to_vacuum();
    if (distributed == nullptr) {
        pass_on(utility);
        return;
    }
    List *samples = vacuum_shards(distributed, vacuum, utility->is_top_level());
    MemoryContext context = CurrentMemoryContext;
    if (samples != NIL)
        analyze_shells(utility, distributed, samples);
    MemoryContextSwitchTo(context); // from that of the transaction which analyzing ended with
    if (vacuum->rels == NIL)
        pass_on(utility);
    if (local == nullptr)
        return;
    auto *rest = static_cast<VacuumStmt *>(copyObjectImpl(vacuum));
    rest->rels = local;
    pass_on_instead(utility, reinterpret_cast<Node *>(rest));
}

// True when it has been done.
bool process_drop(const Utility *utility) {
    auto *drop = reinterpret_cast<DropStmt *>(utility->statement());
    if (drop->removeType != OBJECT_INDEX || !drop->concurrent)
        return false;
    ListCell *cell;
    foreach (cell, drop->objects)
        if (distributed_target(makeRangeVarFromNameList(castNode(List, lfirst(cell)))) != nullptr) {
            OnShell on_shell = {run_on_shell, utility};
            drop_index_concurrently(drop, utility->is_top_level(), &on_shell);
            return true;
        }
    return false;
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
    ListCell *cell;
    foreach (cell, grant_targets(reinterpret_cast<GrantStmt *>(utility->statement()))) {
        Oid relid = static_cast<DistributedTable *>(lfirst(cell))->relid;
        LockRelationOid(relid, ShareUpdateExclusiveLock);
        watch_table(get_distributed_table(relid));
    }
    pass_on(utility);
}

void process_alter_table(const Utility *utility) {
    auto *statement = reinterpret_cast<AlterTableStmt *>(utility->statement());
    if (distributed_target(statement->relation) == nullptr) {
        pass_on(utility);
        return;
    }
    AlterTableStmt *left = prepare_alter_table(statement, utility->query_string);
    if (left->cmds == NIL)
        return;
    allow_shell_rewrite(true);
    PG_TRY();
    { pass_on_instead(utility, reinterpret_cast<Node *>(left)); }
    PG_FINALLY();
    { allow_shell_rewrite(false); }
    PG_END_TRY();
}

// A new constraint of a domain is checked by the shards; here there are no rows.
void process_alter_domain(const Utility *utility) {
    allow_shell_rewrite(true);
    PG_TRY();
    { pass_on(utility); }
    PG_FINALLY();
    { allow_shell_rewrite(false); }
    PG_END_TRY();
}

// A dump creates a distributed table by SET default_table_access_method = panvel: it is an ordinary
// one until its label follows.
void process_create_table(const Utility *utility) {
    auto *create = reinterpret_cast<CreateStmt *>(utility->statement());
    if (create->accessMethod != nullptr || create->partspec != nullptr ||
        strcmp(default_table_access_method, "panvel") != 0) {
        pass_on(utility);
        return;
    }
    auto *ordinary = static_cast<CreateStmt *>(copyObjectImpl(create));
    ordinary->accessMethod = pstrdup("heap");
    pass_on_instead(utility, reinterpret_cast<Node *>(ordinary));
}

// The table of a statistics object. Rights on that are PostgreSQL's to check: the object's owner
// may be another than the table's.
void watch_statistics(List *name) {
    Oid statistics = get_statistics_object_oid(name, true);
    if (!OidIsValid(statistics))
        return;
    HeapTuple tuple = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(statistics));
    Oid relid = reinterpret_cast<Form_pg_statistic_ext>(GETSTRUCT(tuple))->stxrelid;
    ReleaseSysCache(tuple);
    const DistributedTable *table = find_distributed_table(relid);
    if (table == nullptr)
        return;
    LockRelationOid(relid, ShareUpdateExclusiveLock);
    watch_table(table);
}

// Rights and policies of all tables may go with a role's.
void process_owned(const Utility *utility) {
    ListCell *cell;
    foreach (cell, all_distributed_tables()) {
        LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
        if (const DistributedTable *table = find_distributed_table(lfirst_oid(cell)))
            watch_table(table);
    }
    pass_on(utility);
}

void process_one(const Utility *utility) {
    Node *statement = utility->statement();
    switch (nodeTag(statement)) {
    case T_CopyStmt:
        process_copy(utility);
        return;
    case T_IndexStmt:
        process_create_index(utility);
        return;
    case T_ReindexStmt:
        process_reindex(utility);
        return;
    case T_TruncateStmt:
        process_truncate(utility);
        return;
    case T_VacuumStmt:
        process_vacuum(utility);
        return;
    case T_GrantStmt:
        process_grant(utility);
        return;
    case T_AlterTableStmt:
        process_alter_table(utility);
        return;
    case T_CreateStmt:
        process_create_table(utility);
        return;
    case T_ClusterStmt: {
        auto *cluster = reinterpret_cast<ClusterStmt *>(statement);
        if (const DistributedTable *table = distributed_target(cluster->relation)) {
            cluster_shards(table, cluster);
            return;
        }
        break;
    }
    case T_DropStmt:
        if (process_drop(utility))
            return;
        break;
    case T_AlterDomainStmt:
        process_alter_domain(utility);
        return;
    case T_SecLabelStmt: {
        auto *label = reinterpret_cast<SecLabelStmt *>(statement);
        if (!is_distribution_label(label))
            break;
        distribute_as_labelled(label);
        return;
    }
    case T_ConstraintsSetStmt:
        pass_on(utility);
        set_constraints_on_nodes(reinterpret_cast<ConstraintsSetStmt *>(statement));
        return;
    case T_DropOwnedStmt:
    case T_ReassignOwnedStmt:
        process_owned(utility);
        return;
    case T_AlterObjectSchemaStmt: // shards have a schema of their own
        watch_target(reinterpret_cast<AlterObjectSchemaStmt *>(statement)->relation,
                     AccessExclusiveLock);
        break;
    case T_RenameStmt: {
        auto *rename = reinterpret_cast<RenameStmt *>(statement);
        if (rename->renameType == OBJECT_STATISTIC_EXT)
            watch_statistics(castNode(List, rename->object));
        else
            watch_target(rename->relation, AccessExclusiveLock);
        break;
    }
    case T_CreatePolicyStmt:
        watch_target(reinterpret_cast<CreatePolicyStmt *>(statement)->table, AccessExclusiveLock);
        break;
    case T_AlterPolicyStmt:
        watch_target(reinterpret_cast<AlterPolicyStmt *>(statement)->table, AccessExclusiveLock);
        break;
    case T_CreateStatsStmt: {
        ListCell *cell;
        foreach (cell, reinterpret_cast<CreateStatsStmt *>(statement)->relations)
            if (IsA(lfirst(cell), RangeVar))
                watch_target(static_cast<RangeVar *>(lfirst(cell)), ShareUpdateExclusiveLock);
        break;
    }
    case T_AlterStatsStmt:
        watch_statistics(reinterpret_cast<AlterStatsStmt *>(statement)->defnames);
        break;
    default:
        break;
    }
    refuse_unsupported(statement);
    pass_on(utility);
}

void process(const Utility *utility) {
    int mark = begin_watching();
    List *objects = objects_before(utility->statement());
    process_one(utility);
    settle_objects(objects);
    settle_watched(mark);
    flush_drops();
    flush_object_drops();
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
// those that name a relation. Invalid: not a distributed one, or a statement about one of them is
// under way (a new foreign key is seen from both tables).
Oid distributed_relation_of(Oid catalog, AttrNumber oid_column, Oid oid_index, Oid object_id,
                            std::initializer_list<AttrNumber> columns) {
    Relation relation = table_open(catalog, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, oid_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object_id));
    SysScanDesc scan = systable_beginscan(relation, oid_index, true, SnapshotSelf, 1, &key);
    HeapTuple row = systable_getnext(scan);
    Oid found = InvalidOid;
    bool allowed = false;
    if (HeapTupleIsValid(row))
        for (AttrNumber column : columns) {
            bool isnull;
            Oid relid =
                DatumGetObjectId(heap_getattr(row, column, RelationGetDescr(relation), &isnull));
            if (isnull || !OidIsValid(relid) || find_distributed_table(relid) == nullptr)
                continue;
            found = relid;
            allowed |= is_watched(relid);
        }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return allowed ? InvalidOid : found;
}

const char *const kNotHandledHint =
    "docs/sql-support.md lists what distributed tables take. A foreign key goes from a distributed "
    "table to a colocated or reference table; triggers, rules and inheritance are not supported.";

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
    if (alter != nullptr && alter->is_internal)
        return;
    const DistributedTable *table = nullptr;
    if (class_id == RelationRelationId) {
        table = distributed_by_relid(object_id);
    } else if (class_id == InheritsRelationId) {
        table = find_distributed_table(object_id);
        if (table == nullptr && alter != nullptr && OidIsValid(alter->auxiliary_id))
            table = find_distributed_table(alter->auxiliary_id);
    }
    if (table != nullptr && !is_watched(table->relid))
        refuse_on_table(table->relid,
                        class_id == InheritsRelationId ? "inheritance" : "this change",
                        kNotHandledHint);
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
        if (access == OAT_DROP) {
            note_drop(class_id, object_id, sub_id);
            note_object_drop(class_id, object_id, sub_id);
        } else if (access == OAT_POST_CREATE)
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
    init_watch();
    init_node_objects();
    init_foreign_keys();
}

} // namespace panvel
