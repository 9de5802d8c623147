// ivfflat_index_info(): an index in figures.
#include "extension/ivfflat/inspect.h"

#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace ivf {
namespace {

struct Figures {
    int64 rows, free_places, least, most;
    int32 empty_lists;
    Datum *by_list;
};

int64 count_rows(IvfIndex *index, BlockNumber first, int64 *free_places) {
    GroupWalk walk = walk_list(first);
    int64 rows = 0;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        Buffer buffer = next_group(index, Tier::kList, &walk, BUFFER_LOCK_SHARE);
        if (!BufferIsValid(buffer))
            return rows;
        for (uint32 i = 0; i < index->list.members; i++) {
            bool live = member_tid(index->list, BufferGetPage(buffer), i).offset != 0;
            (live ? rows : *free_places)++;
        }
        UnlockReleaseBuffer(buffer);
    }
}

Figures count_lists(IvfIndex *index) {
    Figures figures = {0, 0, PG_INT64_MAX, 0, 0, nullptr};
    const RootEntry *lists = read_root(index, nullptr);
    figures.by_list = static_cast<Datum *>(palloc(index->meta.lists * sizeof(Datum)));
    for (uint32 i = 0; i < index->meta.lists; i++) {
        int64 rows = count_rows(index, lists[i].first, &figures.free_places);
        figures.by_list[i] = Int64GetDatum(rows);
        figures.rows += rows;
        figures.least = Min(figures.least, rows);
        figures.most = Max(figures.most, rows);
        figures.empty_lists += rows == 0;
    }
    return figures;
}

const char *metric_name(const Form &form) {
    if (form.element == Element::kBit)
        return "hamming";
    switch (form.metric) {
    case ann::Metric::kInnerProduct:
        return "ip";
    case ann::Metric::kCosine:
        return "cosine";
    default:
        return "l2";
    }
}

} // namespace

InspectedIndex open_inspected(Oid relation, bool no_vacuum) {
    Oid heap =
        get_rel_relkind(relation) == RELKIND_INDEX ? IndexGetRelation(relation, true) : InvalidOid;
    if (!OidIsValid(heap))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("relation with OID %u is not an ivfflat index", relation)));
    if (pg_class_aclcheck(heap, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(heap));
    InspectedIndex inspected;
    inspected.heap_lock =
        no_vacuum && !RecoveryInProgress() ? ShareUpdateExclusiveLock : AccessShareLock;
    inspected.heap = relation_open(heap, inspected.heap_lock);
    inspected.relation = index_open(relation, AccessShareLock);
    if (inspected.relation->rd_rel->relam != get_am_oid("ivfflat", false))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not an ivfflat index",
                               RelationGetRelationName(inspected.relation))));
    inspected.index = open_index(inspected.relation);
    return inspected;
}

void close_inspected(const InspectedIndex &inspected) {
    index_close(inspected.relation, AccessShareLock);
    relation_close(inspected.heap, inspected.heap_lock);
}

SQL_FUNCTION(ivfflat_index_info) {
    InspectedIndex inspected = open_inspected(PG_GETARG_OID(0), false);
    IvfIndex *index = inspected.index;
    Figures figures = count_lists(index);
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    auto lists = static_cast<int32>(index->meta.lists);
    Datum values[] = {
        Int32GetDatum(static_cast<int32>(index->meta.dim)),
        CStringGetTextDatum(metric_name(index->form)),
        Int32GetDatum(lists),
        Int32GetDatum(index->meta.list_bits),
        Int64GetDatum(figures.rows),
        Int64GetDatum(figures.free_places),
        Int64GetDatum(figures.least),
        Float8GetDatum(static_cast<double>(figures.rows) / lists),
        Int64GetDatum(figures.most),
        Int32GetDatum(figures.empty_lists),
        Int64GetDatum(RelationGetNumberOfBlocks(inspected.relation)),
        PointerGetDatum(construct_array(figures.by_list, lists, INT8OID, sizeof(int64),
                                        FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
    };
    bool nulls[lengthof(values)] = {};
    HeapTuple tuple = heap_form_tuple(BlessTupleDesc(descriptor), values, nulls);
    close_inspected(inspected);
    PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

} // namespace ivf
