// hnsw_index_info(): an index in figures.
#include "extension/hnsw/inspect.h"

#include "extension/hnsw/hnsw.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace vec {
namespace {

struct Figures {
    int64 slots[4] = {}; // elements by state
    int64 rows = 0;
    int64 degrees[ann::kMaxSlots + 1] = {};    // live elements by number of neighbours
    int64 top_levels[ann::kMaxLevel + 1] = {}; // live elements by level
    int64 pages[kPageKinds] = {};
};

void count_element(GraphIndex *graph, const ann::ElementImage &image, Figures *figures) {
    const ann::ElementHeader &header = image.header();
    figures->slots[static_cast<int>(header.slot.state) & 3]++;
    if (header.slot.state != ann::SlotState::kLive)
        return;
    figures->rows += header.tid_count;
    uint32 degree = 0;
    for (uint32 i = 0; i < graph->layout.slots; i++)
        degree += !image.links(graph->layout)[i].empty();
    figures->degrees[degree]++;
    figures->top_levels[Min(header.slot.detail, ann::kMaxLevel)]++;
}

void count_page(GraphIndex *graph, BlockNumber block, Figures *figures) {
    CHECK_FOR_INTERRUPTS();
    Buffer buffer = ReadBuffer(graph->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    if (!PageIsNew(page)) {
        PageKind kind = check_page(graph, block, page);
        figures->pages[kind]++;
        for (uint16 i = 0; i < page_tail(page)->slots; i++) {
            uint8 *slot = slot_at(graph->layout, page, kind, i);
            auto *piece = reinterpret_cast<ann::PieceHeader *>(slot);
            if (kind == kElementPage)
                count_element(graph, ann::ElementImage{slot}, figures);
            else if (kind == kSidePage && piece->slot.state == ann::SlotState::kLive)
                figures->rows += piece->tid_count;
        }
    }
    UnlockReleaseBuffer(buffer);
}

struct Degrees {
    uint32 least = 0, most = 0;
    double average = 0;

    explicit Degrees(const Figures &figures) {
        double links = 0, elements = 0;
        for (uint32 degree = 0; degree <= ann::kMaxSlots; degree++) {
            if (figures.degrees[degree] == 0)
                continue;
            if (elements == 0)
                least = degree;
            most = degree;
            elements += figures.degrees[degree];
            links += static_cast<double>(degree) * figures.degrees[degree];
        }
        average = elements == 0 ? 0 : links / elements;
    }
};

// Counts from [0] on, as long as there are any.
Datum count_array(const int64 *counts, uint32 size) {
    while (size > 0 && counts[size - 1] == 0)
        size--;
    auto *values = static_cast<Datum *>(palloc((size + 1) * sizeof(Datum)));
    for (uint32 i = 0; i < size; i++)
        values[i] = Int64GetDatum(counts[i]);
    int dims[] = {static_cast<int>(size)}, lower_bounds[] = {0};
    return PointerGetDatum(construct_md_array(values, nullptr, size == 0 ? 0 : 1, dims,
                                              lower_bounds, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                                              TYPALIGN_DOUBLE));
}

const char *metric_name(ann::Metric metric) {
    switch (metric) {
    case ann::Metric::kL2:
        return "l2";
    case ann::Metric::kInnerProduct:
        return "ip";
    case ann::Metric::kCosine:
        return "cosine";
    case ann::Metric::kL1:
        return "l1";
    case ann::Metric::kHamming:
        return "hamming";
    case ann::Metric::kJaccard:
        break;
    }
    return "jaccard";
}

} // namespace

InspectedIndex open_inspected(Oid relation) {
    Oid heap =
        get_rel_relkind(relation) == RELKIND_INDEX ? IndexGetRelation(relation, true) : InvalidOid;
    if (!OidIsValid(heap))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("relation with OID %u is not an hnsw index", relation)));
    if (pg_class_aclcheck(heap, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(heap));
    InspectedIndex inspected;
    inspected.heap = relation_open(heap, AccessShareLock);
    inspected.index = index_open(relation, AccessShareLock);
    if (inspected.index->rd_rel->relam != get_am_oid("hnsw", false))
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                 errmsg("\"%s\" is not an hnsw index", RelationGetRelationName(inspected.index))));
    inspected.graph = open_graph(inspected.index);
    return inspected;
}

void close_inspected(const InspectedIndex &inspected) {
    index_close(inspected.index, AccessShareLock);
    relation_close(inspected.heap, AccessShareLock);
}

SQL_FUNCTION(hnsw_index_info) {
    InspectedIndex inspected = open_inspected(PG_GETARG_OID(0));
    GraphIndex *graph = inspected.graph;
    Figures figures;
    BlockNumber blocks = RelationGetNumberOfBlocks(inspected.index);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++)
        count_page(graph, block, &figures);
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Degrees degrees(figures);
    int64 live = figures.slots[static_cast<int>(ann::SlotState::kLive)];
    Datum values[] = {
        Int32GetDatum(static_cast<int32>(graph->meta.dim)),
        CStringGetTextDatum(metric_name(graph->metric)),
        Int32GetDatum(graph->meta.m),
        Int32GetDatum(graph->meta.ef_construction),
        Int32GetDatum(graph->meta.code_bits),
        Int32GetDatum(graph->meta.entry_level + 1),
        Int64GetDatum(live),
        Int64GetDatum(figures.slots[static_cast<int>(ann::SlotState::kDead)]),
        Int64GetDatum(figures.slots[static_cast<int>(ann::SlotState::kFree)]),
        Int64GetDatum(figures.rows),
        Int32GetDatum(static_cast<int32>(degrees.least)),
        Float8GetDatum(degrees.average),
        Int32GetDatum(static_cast<int32>(degrees.most)),
        Int64GetDatum(blocks),
        count_array(figures.top_levels, lengthof(figures.top_levels)),
        count_array(figures.degrees, lengthof(figures.degrees)),
    };
    bool nulls[lengthof(values)] = {};
    HeapTuple tuple = heap_form_tuple(BlessTupleDesc(descriptor), values, nulls);
    close_inspected(inspected);
    PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

} // namespace vec
