// SET CONSTRAINTS: deferrable constraints are the shards' to check, so it is their sessions that
// have to know when.
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// A constraint of a distributed table that the statement names.
struct Named {
    const DistributedTable *table;
    const char *name;
};

// Appends those of the schema, and says whether it has any constraint of the name.
bool find_in_schema(Oid schema, const char *name, List **found) {
    Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
    NameData key_name;
    namestrcpy(&key_name, name);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_constraint_conname, BTEqualStrategyNumber, F_NAMEEQ,
                NameGetDatum(&key_name));
    ScanKeyInit(&keys[1], Anum_pg_constraint_connamespace, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(schema));
    SysScanDesc scan =
        systable_beginscan(constraints, ConstraintNameNspIndexId, true, nullptr, 2, keys);
    bool any = false;
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan))) {
        auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row));
        any = true;
        const DistributedTable *table =
            OidIsValid(form->conrelid) ? find_distributed_table(form->conrelid) : nullptr;
        if (table == nullptr)
            continue;
        auto *named = palloc_object(Named);
        *named = {table, pstrdup(name)};
        *found = lappend(*found, named);
    }
    systable_endscan(scan);
    table_close(constraints, AccessShareLock);
    return any;
}

// As PostgreSQL looks them up: in the schema that is given, else in the first of the search path
// that has the name.
List *find_constraints(const RangeVar *name) {
    List *found = NIL;
    if (name->schemaname != nullptr) {
        find_in_schema(LookupExplicitNamespace(name->schemaname, false), name->relname, &found);
        return found;
    }
    ListCell *cell;
    foreach (cell, fetch_search_path(true))
        if (find_in_schema(lfirst_oid(cell), name->relname, &found))
            break;
    return found;
}

void send_all(NodeBatch *batch, const char *mode) {
    List *node_ids = NIL;
    ListCell *cell;
    foreach (cell, all_distributed_tables())
        node_ids = list_concat_unique_int(node_ids,
                                          nodes_of_table(get_distributed_table(lfirst_oid(cell))));
    foreach (cell, node_ids)
        batch_send(batch, lfirst_int(cell), psprintf("SET CONSTRAINTS ALL %s", mode),
                   Effect::kRead);
}

} // namespace

void set_constraints_on_nodes(const ConstraintsSetStmt *statement) {
    if (!IsTransactionBlock()) // PostgreSQL has warned that it has no effect
        return;
    const char *mode = statement->deferred ? "DEFERRED" : "IMMEDIATE";
    NodeBatch batch;
    if (statement->constraints == NIL)
        send_all(&batch, mode);
    ListCell *cell;
    foreach (cell, statement->constraints) {
        ListCell *item;
        foreach (item, find_constraints(static_cast<RangeVar *>(lfirst(cell)))) {
            auto *named = static_cast<const Named *>(lfirst(item));
            ListCell *node;
            foreach (node, nodes_of_table(named->table))
                batch_send(
                    &batch, lfirst_int(node),
                    psprintf("SET CONSTRAINTS %s %s",
                             shard_names_on_node(named->table, lfirst_int(node), named->name),
                             mode),
                    Effect::kRead);
        }
    }
    batch_finish(&batch);
}

} // namespace panvel
