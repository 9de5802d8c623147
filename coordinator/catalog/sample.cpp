#include "coordinator/catalog/sample.h"

#include "coordinator/executor/node_rows.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// Larger values count by their size alone (WIDTH_THRESHOLD in PostgreSQL's analyze.c).
constexpr int kWideValue = 1024;
// Of a larger shard only some of the pages are read.
constexpr double kMaxSampledPages = 20000;
constexpr int kBatchRows = 1000;

List *offered = NIL;

int wanted_rows(Relation relation) {
    int target = default_statistics_target;
    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++)
        target = std::max(target, static_cast<int>(TupleDescAttr(columns, i)->attstattarget));
    return 300 * target - 1; // one less than a full sample, which would be sorted by ctid
}

// ------------------------------------------------------------------------- columns

// Columns that ANALYZE computes expressions of indexes from.
Bitmapset *columns_of_expressions(Relation relation) {
    Bitmapset *used = nullptr;
    ListCell *cell;
    foreach (cell, RelationGetIndexList(relation)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        pull_varattnos(reinterpret_cast<Node *>(RelationGetIndexExpressions(index)), 1, &used);
        pull_varattnos(reinterpret_cast<Node *>(RelationGetIndexPredicate(index)), 1, &used);
        index_close(index, AccessShareLock);
    }
    return used;
}

struct SampledColumn {
    AttrNumber number;
    bool sized; // two columns of the query: the value unless it is wide, and the size if it is
};

// `columns`: List of SampledColumn *.
List *sampled_columns(Relation relation) {
    Bitmapset *computed = columns_of_expressions(relation);
    bool extended = RelationGetStatExtList(relation) != NIL;
    TupleDesc descriptor = RelationGetDescr(relation);
    List *columns = NIL;
    for (int i = 0; i < descriptor->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(descriptor, i);
        if (attribute->attisdropped)
            continue;
        auto *column = palloc_object(SampledColumn);
        column->number = attribute->attnum;
        // Types whose values are usually stored out of line, uncompressed: vectors.
        column->sized =
            attribute->attlen == -1 && get_typstorage(attribute->atttypid) == TYPSTORAGE_EXTERNAL &&
            !extended &&
            !bms_is_member(attribute->attnum - FirstLowInvalidHeapAttributeNumber, computed);
        columns = lappend(columns, column);
    }
    return columns;
}

char *select_list(Relation relation, List *columns) {
    StringInfoData text;
    initStringInfo(&text);
    ListCell *cell;
    foreach (cell, columns) {
        auto *column = static_cast<SampledColumn *>(lfirst(cell));
        const char *name = quote_identifier(
            NameStr(TupleDescAttr(RelationGetDescr(relation), column->number - 1)->attname));
        const char *separator = text.len > 0 ? ", " : "";
        if (column->sized)
            appendStringInfo(&text,
                             "%sCASE WHEN pg_catalog.pg_column_size(%s) <= %d THEN %s END, "
                             "CASE WHEN pg_catalog.pg_column_size(%s) > %d "
                             "THEN pg_catalog.pg_column_size(%s) END",
                             separator, name, kWideValue, name, name, kWideValue, name);
        else
            appendStringInfo(&text, "%s%s", separator, name);
    }
    return text.data;
}

TupleDesc fetched_columns(Relation relation, List *columns) {
    int count = 0;
    ListCell *cell;
    foreach (cell, columns)
        count += static_cast<SampledColumn *>(lfirst(cell))->sized ? 2 : 1;
    TupleDesc fetched = CreateTemplateTupleDesc(count);
    AttrNumber position = 0;
    foreach (cell, columns) {
        auto *column = static_cast<SampledColumn *>(lfirst(cell));
        TupleDescCopyEntry(fetched, ++position, RelationGetDescr(relation), column->number);
        if (column->sized)
            TupleDescInitEntry(fetched, ++position, nullptr, INT4OID, -1, 0);
    }
    return fetched;
}

// A pointer to a value stored elsewhere, as ANALYZE of a heap sees such a value: its size can be
// asked for.
Datum wide_stand_in(int32 size) {
    varatt_external pointer = {};
    pointer.va_rawsize = size;
    auto *value = static_cast<varattrib_1b_e *>(palloc0(TOAST_POINTER_SIZE));
    SET_VARTAG_EXTERNAL(value, VARTAG_ONDISK);
    memcpy(VARDATA_EXTERNAL(value), &pointer, sizeof(pointer));
    return PointerGetDatum(value);
}

HeapTuple make_row(Relation relation, List *columns, const Datum *fetched,
                   const bool *fetched_isnull) {
    TupleDesc descriptor = RelationGetDescr(relation);
    auto *values = palloc0_array(Datum, descriptor->natts);
    auto *isnull = palloc_array(bool, descriptor->natts);
    memset(isnull, true, descriptor->natts);
    int position = 0;
    ListCell *cell;
    foreach (cell, columns) {
        auto *column = static_cast<SampledColumn *>(lfirst(cell));
        int attribute = column->number - 1;
        values[attribute] = fetched[position];
        isnull[attribute] = fetched_isnull[position++];
        if (!column->sized)
            continue;
        if (!fetched_isnull[position]) {
            values[attribute] = wide_stand_in(DatumGetInt32(fetched[position]));
            isnull[attribute] = false;
        }
        position++;
    }
    HeapTuple row = heap_form_tuple(descriptor, values, isnull);
    pfree(values);
    pfree(isnull);
    return row;
}

// ------------------------------------------------------------------------- rows

// "SELECT columns FROM shard" for a part of its rows.
void append_shard(StringInfo sql, const DistributedTable *table, const ShardEstimate *shard,
                  const char *list, double fraction) {
    double pages = shard->pages > kMaxSampledPages ? kMaxSampledPages / shard->pages : 1;
    appendStringInfo(sql, "SELECT %s FROM %s", list,
                     quote_qualified_identifier(shard->schema, get_rel_name(table->relid)));
    if (pages < 1)
        appendStringInfo(sql, " TABLESAMPLE SYSTEM (%.6f)", pages * 100);
    if (fraction < pages)
        appendStringInfo(sql, " WHERE pg_catalog.random() < %.9f", fraction / pages);
}

char *node_statement(const DistributedTable *table, const TableEstimates *estimates, int32 node_id,
                     const char *list, double fraction) {
    StringInfoData sql;
    initStringInfo(&sql);
    ListCell *cell;
    foreach (cell, estimates->shards) {
        auto *shard = static_cast<ShardEstimate *>(lfirst(cell));
        if (shard->node_id != node_id)
            continue;
        appendStringInfoString(&sql, sql.len > 0 ? " UNION ALL " : "");
        append_shard(&sql, table, shard, list, fraction);
    }
    return sql.data;
}

} // namespace

TableSample *fetch_sample(const DistributedTable *table, const TableEstimates *estimates) {
    Relation relation = table_open(table->relid, AccessShareLock);
    int wanted = wanted_rows(relation);
    List *columns = sampled_columns(relation);
    const char *list = select_list(relation, columns);
    TupleDesc fetched = fetched_columns(relation, columns);
    double fraction = estimates->rows > wanted ? wanted / estimates->rows : 1;

    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel sample", ALLOCSET_DEFAULT_SIZES);
    List *node_ids = NIL;
    ListCell *cell;
    foreach (cell, estimates->shards)
        node_ids =
            list_append_unique_int(node_ids, static_cast<ShardEstimate *>(lfirst(cell))->node_id);
    auto *nodes = palloc0_array(NodeRows, list_length(node_ids));
    RowDecoder *decoder = make_row_decoder(fetched);
    foreach (cell, node_ids) {
        NodeRows *rows = &nodes[foreach_current_index(cell)];
        rows->node_id = lfirst_int(cell);
        rows->sql = node_statement(table, estimates, rows->node_id, list, fraction);
        rows->decoder = decoder;
        rows->batch_rows = kBatchRows;
        rows->context = context;
        rows->row_context =
            AllocSetContextCreate(context, "panvel sampled row", ALLOCSET_SMALL_SIZES);
        start_node_rows(rows);
    }

    auto *sample = palloc0_object(TableSample);
    sample->relid = table->relid;
    sample->total_rows = estimates->rows;
    sample->rows = palloc_array(HeapTuple, wanted);
    auto *values = palloc_array(Datum, fetched->natts);
    auto *isnull = palloc_array(bool, fetched->natts);
    for (int i = 0; i < list_length(node_ids); i++)
        while (sample->count < wanted && next_node_row(&nodes[i], values, isnull)) {
            CHECK_FOR_INTERRUPTS();
            sample->rows[sample->count++] = make_row(relation, columns, values, isnull);
        }
    for (int i = 0; i < list_length(node_ids); i++)
        stop_node_rows(&nodes[i]);
    MemoryContextDelete(context);
    table_close(relation, NoLock);
    return sample;
}

void offer_samples(List *samples) {
    offered = samples;
}

const TableSample *offered_sample(Oid relid) {
    ListCell *cell;
    foreach (cell, offered)
        if (static_cast<TableSample *>(lfirst(cell))->relid == relid)
            return static_cast<TableSample *>(lfirst(cell));
    return nullptr;
}

} // namespace panvel
