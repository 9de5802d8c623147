// ivfflat_index_check(): every page as it should be, every code that of its vector, every row of
// the table that is to be indexed in the index once.
#include "extension/ivfflat/codes.h"
#include "extension/ivfflat/inspect.h"
#include "extension/ivfflat/ivfflat.h"
#include "extension/ivfflat/list_search.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/tableam.h"
#include "catalog/index.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
}

namespace ivf {
namespace {

struct Check {
    explicit Check(ann::Arena arena) : rows(arena), pages(arena) {}

    IvfIndex *index;
    ReturnSetInfo *result;
    MemoryContext row_context;
    ann::KeySet rows;  // in the index
    ann::KeySet pages; // that belong to a list
    float *centroid;
    uint8 *vector;
};

uint64 row_key(ann::Tid tid) {
    return (static_cast<uint64>(tid.block_high) << 32) |
           (static_cast<uint64>(tid.block_low) << 16) | tid.offset;
}

void report(Check *check, BlockNumber block, uint32 place, const char *problem) {
    Datum values[] = {Int64GetDatum(block), Int32GetDatum(static_cast<int32>(place)),
                      CStringGetTextDatum(problem)};
    bool nulls[] = {false, false, false};
    tuplestore_putvalues(check->result->setResult, check->result->setDesc, values, nulls);
}

// The page's problem is reported; false then.
bool own_page(Check *check, BlockNumber block, PageKind kind, BlockNumber owner) {
    if (block == kMetaBlock || block >= RelationGetNumberOfBlocks(check->index->relation)) {
        report(check, block, 0, "linked, and beyond the index");
        return false;
    }
    Buffer buffer = ReadBuffer(check->index->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    const char *problem = page_problem(check->index, page);
    if (problem == nullptr && (page_tail(page)->kind != kind || page_tail(page)->owner != owner))
        problem = "a page that belongs elsewhere than its link says";
    if (problem == nullptr && !check->pages.insert(block))
        problem = "a page that is linked twice";
    UnlockReleaseBuffer(buffer);
    if (problem != nullptr)
        report(check, block, 0, problem);
    return problem == nullptr;
}

// False when a page of vectors is damaged.
bool check_vector_pages(Check *check, BlockNumber group, const ann::ListLayout &l, Page page,
                        PageKind kind) {
    const BlockNumber *table = ann::vector_table(l, page);
    bool good = true;
    for (uint32 i = 0; i < l.vector_pages; i++)
        if (table[i] != InvalidBlockNumber && !own_page(check, table[i], kind, group))
            good = false;
    return good;
}

// Sums of another machine's instructions may differ in the last digits.
bool near(float a, float b) {
    return a == b || std::fabs(a - b) <= 1e-3F * (std::fabs(a) + std::fabs(b));
}

// A member's code and its copy of the TID against its vector.
const char *code_problem(Check *check, BlockNumber group, Page page, uint32 member, float scale) {
    IvfIndex *index = check->index;
    const ann::ListLayout &l = index->list;
    const BlockNumber *table = ann::vector_table(l, page);
    for (uint32 i = l.page_of(member, 0); i <= l.page_of(member, l.pieces - 1); i++)
        if (table[i] == InvalidBlockNumber)
            return "a member without a page";
    ann::VectorHeader header = copy_vector(index, Tier::kList, group, table, member, check->vector);
    ann::ListBlock block = ann::list_block(l, page, member / ann::kBlock);
    uint32 place = member % ann::kBlock;
    if (!(header.tid == block.tids()[place]))
        return "another row at its vector than at its code";
    const float *floats = stored_floats(index->form, check->vector);
    if (floats == nullptr)
        return "a zero vector";
    MemberCode expected = encode_row(index, floats, check->centroid, scale);
    auto *code = static_cast<uint8 *>(palloc(ann::code_bytes(l.coded, l.bits)));
    ann::get_code(block.codes(), place, l.coded, l.bits, code);
    bool same = memcmp(code, expected.code, ann::code_bytes(l.coded, l.bits)) == 0 &&
                near(block.constants()[place], expected.factors.constant) &&
                near(block.slopes()[place], expected.factors.slope) &&
                near(block.errors()[place], expected.factors.error);
    return same ? nullptr : "a code that is not its vector's";
}

void check_member(Check *check, BlockNumber group, Page page, uint32 member, float scale) {
    const ann::ListLayout &l = check->index->list;
    ann::Tid tid = member_tid(l, page, member);
    if (tid.offset == 0)
        return;
    if (!check->rows.insert(row_key(tid)))
        report(check, group, member,
               psprintf("row (%u,%u) is indexed twice", list_block(tid), tid.offset));
    if (!l.has_codes())
        return;
    MemoryContext before = MemoryContextSwitchTo(check->row_context);
    const char *problem = code_problem(check, group, page, member, scale);
    MemoryContextSwitchTo(before);
    if (problem != nullptr)
        report(check, group, member, problem);
    MemoryContextReset(check->row_context);
}

// Locked all the while: members and their vectors change together.
void check_list(Check *check, BlockNumber first) {
    IvfIndex *index = check->index;
    BlockNumber block = first;
    float scale = 1;
    bool meets_hint = false;
    BlockNumber hint = InvalidBlockNumber;
    while (block != ann::kNoPage) {
        CHECK_FOR_INTERRUPTS();
        if (!own_page(check, block, kListGroup, first))
            return;
        Buffer buffer = read_page(index, block, kListGroup, first, BUFFER_LOCK_SHARE);
        Page page = BufferGetPage(buffer);
        if (block == first) {
            scale = ann::group_header(page).scale;
            hint = ann::group_header(page).insert_page;
        }
        meets_hint = meets_hint || block == hint;
        if (check_vector_pages(check, block, index->list, page, kListVectors))
            for (uint32 i = 0; i < index->list.members; i++)
                check_member(check, block, page, i, scale);
        block = ann::group_header(page).next;
        UnlockReleaseBuffer(buffer);
    }
    if (!meets_hint)
        report(check, first, 0, "inserts begin at a page that is not the list's");
}

void read_centroid(Check *check, const RootEntry &entry) {
    IvfIndex *index = check->index;
    Buffer buffer = read_page(index, entry.group, kRootGroup, index->meta.root, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    if (index->root.has_codes())
        copy_vector(index, Tier::kRoot, entry.group, ann::vector_table(index->root, page),
                    entry.member, reinterpret_cast<uint8 *>(check->centroid));
    else
        memcpy(check->centroid, ann::slot_vector(ann::vector_slot(index->root, page, entry.member)),
               index->meta.dim * sizeof(float));
    UnlockReleaseBuffer(buffer);
}

void check_root(Check *check) {
    IvfIndex *index = check->index;
    GroupWalk walk = walk_list(index->meta.root);
    for (;;) {
        BlockNumber block = walk.next;
        Buffer buffer = next_group(index, Tier::kRoot, &walk, BUFFER_LOCK_SHARE);
        if (!BufferIsValid(buffer))
            break;
        check->pages.insert(block);
        check_vector_pages(check, block, index->root, BufferGetPage(buffer), kRootVectors);
        UnlockReleaseBuffer(buffer);
    }
    const RootEntry *lists = read_root(index, nullptr);
    for (uint32 i = 0; i < index->meta.lists; i++) {
        read_centroid(check, lists[i]);
        check_list(check, lists[i].first);
    }
}

void check_row(Relation, ItemPointer pointer, Datum *values, bool *is_null, bool, void *argument) {
    auto *check = static_cast<Check *>(argument);
    if (is_null[0] || check->rows.contains(row_key(to_tid(*pointer))))
        return;
    MemoryContext before = MemoryContextSwitchTo(check->row_context);
    bool indexed = read_value(check->index->form, values[0]).floats != nullptr;
    MemoryContextSwitchTo(before);
    MemoryContextReset(check->row_context);
    if (indexed)
        report(check, kMetaBlock, 0,
               psprintf("row (%u,%u) is not in the index", ItemPointerGetBlockNumber(pointer),
                        ItemPointerGetOffsetNumber(pointer)));
}

// Compares with the table's rows in `snapshot`, which is older than the walk.
void check_rows(Check *check, const InspectedIndex &inspected, Snapshot snapshot) {
    IndexInfo *info = BuildIndexInfo(inspected.relation);
    info->ii_Concurrent = true; // as amcheck does: the snapshot decides, nothing is waited for
    info->ii_Unique = false;
    TableScanDesc scan = table_beginscan_strat(inspected.heap, snapshot, 0, nullptr, true, true);
    table_index_build_scan(inspected.heap, inspected.relation, info, true, false, check_row, check,
                           scan);
}

} // namespace

SQL_FUNCTION(ivfflat_index_check) {
    InitMaterializedSRF(fcinfo, 0);
    InspectedIndex inspected = open_inspected(PG_GETARG_OID(0), true);
    Check check(arena_in(CurrentMemoryContext));
    check.index = inspected.index;
    check.result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    check.row_context =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat check row", ALLOCSET_DEFAULT_SIZES);
    check.centroid = static_cast<float *>(palloc(check.index->meta.dim * sizeof(float)));
    check.vector = static_cast<uint8 *>(palloc(check.index->list.vector_bytes));
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    check_root(&check);
    check_rows(&check, inspected, snapshot);
    UnregisterSnapshot(snapshot);
    close_inspected(inspected);
    return static_cast<Datum>(0);
}

} // namespace ivf
