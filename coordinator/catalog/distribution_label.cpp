#include "coordinator/catalog/distribution_label.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/create_table.h"
#include "coordinator/catalog/settings.h"
#include "coordinator/ddl/ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/seclabel.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

constexpr char kProvider[] = "panvel";
constexpr char kReferenceLabel[] = "reference table";
// Of a distribution column.
constexpr char kLabelFormat[] = "distribution column shard_count=%d replication_factor=%d group=%s";
constexpr char kLabelPattern[] =
    "distribution column shard_count=%d replication_factor=%d group=%63[0-9a-z-]%n";
constexpr int kGroupSize = 64;

struct Label {
    int shard_count;
    int replication_factor;
    char group[kGroupSize];
};

bool parse_label(const char *text, Label *label) {
    int length = 0;
    return sscanf(text, kLabelPattern, &label->shard_count, &label->replication_factor,
                  label->group, &length) == 3 &&
           text[length] == '\0' && label->shard_count >= 1 && label->replication_factor >= 1;
}

ObjectAddress labelled_object(const DistributedTable *table) {
    ObjectAddress address;
    ObjectAddressSubSet(address, RelationRelationId, table->relid, table->distribution_attribute);
    return address;
}

// The group's name in the table's label, or null.
char *group_of_table(Oid relid) {
    const DistributedTable *table = find_distributed_table(relid);
    if (table == nullptr || table->is_reference)
        return nullptr;
    ObjectAddress address = labelled_object(table);
    char *text = GetSecurityLabel(&address, kProvider);
    Label label;
    return text != nullptr && parse_label(text, &label) ? pstrdup(label.group) : nullptr;
}

// Among all databases and servers the group's own: a dump may be restored anywhere.
char *new_group(const DistributedTable *table) {
    return psprintf(UINT64_FORMAT "-%u-%d", GetSystemIdentifier(), MyDatabaseId,
                    table->colocation_id);
}

// The table of that group that another one can be colocated with; invalid when there is none.
Oid table_of_group(const char *group, const char *name) {
    Oid found = InvalidOid;
    ListCell *cell;
    foreach (cell, all_distributed_tables()) {
        char *other = group_of_table(lfirst_oid(cell));
        if (other == nullptr || strcmp(other, group) != 0)
            continue;
        // Tables of one name cannot share a group: a second copy of the dump gets its own.
        if (strcmp(get_rel_name(lfirst_oid(cell)), name) == 0)
            return InvalidOid;
        found = lfirst_oid(cell);
    }
    return found;
}

[[noreturn]] void refuse_label(const char *reason) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("security labels of provider \"%s\" say how a table is distributed%s",
                           kProvider, reason),
                    errhint("Use panvel.create_distributed_table(), create_reference_table() and "
                            "undistribute_table().")));
    pg_unreachable();
}

// Called for what is_distribution_label() did not take: other objects than tables, and databases
// without the extension.
void check_label(const ObjectAddress *, const char *) {
    pg::entry([] { refuse_label(": this is not one that a dump has"); });
}

void distribute_by_column(Oid relid, const char *column, const char *text) {
    Label label;
    if (!parse_label(text, &label))
        refuse_label(": this is not one that a dump has");
    DistributionRequest request = {};
    request.relid = relid;
    request.column = column;
    request.group = label.group;
    request.colocate_with = table_of_group(label.group, get_rel_name(relid));
    if (!OidIsValid(request.colocate_with)) {
        request.shard_count = label.shard_count;
        request.replication_factor = label.replication_factor;
        ListCell
            *cell; // a group's name that is taken by a table of the same name is not used again
        foreach (cell, all_distributed_tables()) {
            char *taken = group_of_table(lfirst_oid(cell));
            if (taken != nullptr && strcmp(taken, label.group) == 0)
                request.group = nullptr;
        }
    }
    create_distributed_table(&request);
}

} // namespace

void label_distributed_table(const DistributedTable *table, const char *group) {
    ObjectAddress address = labelled_object(table);
    if (table->is_reference) {
        SetSecurityLabel(&address, kProvider, kReferenceLabel);
        return;
    }
    ListCell *cell;
    foreach (cell, colocated_tables(table->colocation_id))
        if (group == nullptr && lfirst_oid(cell) != table->relid)
            group = group_of_table(lfirst_oid(cell));
    SetSecurityLabel(&address, kProvider,
                     psprintf(kLabelFormat, table->shard_count, table->replication_factor,
                              group != nullptr ? group : new_group(table)));
}

void unlabel_distributed_table(const DistributedTable *table) {
    ObjectAddress address = labelled_object(table);
    SetSecurityLabel(&address, kProvider, nullptr);
}

bool is_distribution_label(const SecLabelStmt *statement) {
    return statement->provider != nullptr && strcmp(statement->provider, kProvider) == 0 &&
           (statement->objtype == OBJECT_TABLE || statement->objtype == OBJECT_COLUMN);
}

void distribute_as_labelled(const SecLabelStmt *statement) {
    auto *name = castNode(List, statement->object);
    const char *column = nullptr;
    if (statement->objtype == OBJECT_COLUMN) {
        column = strVal(llast(name));
        name = list_truncate(list_copy(name), list_length(name) - 1);
    }
    Oid relid = RangeVarGetRelid(makeRangeVarFromNameList(name), NoLock, false);
    if (statement->label == nullptr)
        refuse_label(" and cannot be dropped");
    if (column != nullptr)
        distribute_by_column(relid, column, statement->label);
    else if (strcmp(statement->label, kReferenceLabel) == 0)
        create_reference_table(relid);
    else
        refuse_label(": this is not one that a dump has");
}

void init_distribution_labels() {
    register_label_provider(kProvider, check_label);
}

} // namespace panvel
