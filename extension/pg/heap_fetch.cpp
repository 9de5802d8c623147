#include "extension/pg/heap_fetch.h"

#include "extension/pg/recent_buffers.h"

extern "C" {
#include "access/heapam.h"
#include "access/tableam.h"
#include "storage/bufpage.h"
}

namespace pg {
namespace {

bool is_heap(Relation table) {
    return table->rd_tableam == GetHeapamTableAmRoutine();
}

// Where the row's header begins, by a page that is not pinned: NULL where that makes no sense.
const char *row_place(const char *page, OffsetNumber offset) {
    size_t place = SizeOfPageHeaderData + (offset - 1) * sizeof(ItemIdData);
    if (offset == InvalidOffsetNumber || place + sizeof(ItemIdData) > BLCKSZ)
        return nullptr;
    ItemIdData item;
    memcpy(&item, page + place, sizeof(item));
    return item.lp_off < BLCKSZ ? page + item.lp_off : nullptr;
}

} // namespace

void prepare_heap_rows(Relation table, const ItemPointerData *rows, size_t count) {
    constexpr size_t kMost = 16;
    if (!is_heap(table))
        return;
    const char *pages[kMost];
    count = Min(count, kMost);
    for (size_t i = 0; i < count; i++) {
        pages[i] = prepare_recent_page(table, ItemPointerGetBlockNumberNoCheck(&rows[i]));
        if (pages[i] != nullptr)
            __builtin_prefetch(pages[i]);
    }
    for (size_t i = 0; i < count; i++) {
        const char *row = nullptr;
        if (pages[i] != nullptr)
            row = row_place(pages[i], ItemPointerGetOffsetNumberNoCheck(&rows[i]));
        if (row != nullptr)
            __builtin_prefetch(row);
    }
}

void pin_heap_page(IndexScanDesc scan) {
    Relation table = scan->heapRelation;
    if (scan->xs_heapfetch == nullptr || !is_heap(table))
        return;
    auto *fetch = reinterpret_cast<IndexFetchHeapData *>(scan->xs_heapfetch);
    BlockNumber block = ItemPointerGetBlockNumber(&scan->xs_heaptid);
    if (BufferIsValid(fetch->xs_cbuf) && BufferGetBlockNumber(fetch->xs_cbuf) == block)
        return;
    Buffer buffer = read_recent_buffer(table, block);
    if (BufferIsValid(fetch->xs_cbuf))
        ReleaseBuffer(fetch->xs_cbuf);
    fetch->xs_cbuf = buffer;
    heap_page_prune_opt(table, buffer);
}

} // namespace pg
