#include "extension/pg/recent_buffers.h"

#include "extension/pg/compat.h"

extern "C" {
#include "pgstat.h"
#include "storage/buf_internals.h"
}

namespace pg {
namespace {

constexpr uint32 kMaxPlaces = 1 << 18; // 1 MB of buffer numbers
constexpr uint32 kUsageInterval = 32;

// Direct-mapped, by relation and block; allocated at first use, for as long as the backend lives.
Buffer *places;
uint32 place_mask;
uint32 reads;

// By how much buffer numbers were above block numbers when a relation's page was last looked up.
struct Shift {
    uint32 file;
    int64 shift;
};
Shift shifts[16];

void allocate_places() {
    uint32 count = std::bit_ceil(Min(static_cast<uint32>(NBuffers), kMaxPlaces / 2)) * 2;
    places =
        static_cast<Buffer *>(MemoryContextAllocZero(TopMemoryContext, count * sizeof(Buffer)));
    place_mask = count - 1;
}

Shift *shift_of(Relation relation) {
    return &shifts[file_number(relation) % lengthof(shifts)];
}

// InvalidBuffer where that makes no sense. The block number in the buffer is looked at without a
// lock: whoever pins the buffer compares all.
Buffer guess(Relation relation, BlockNumber block) {
    const Shift *shift = shift_of(relation);
    int64 buffer = shift->shift + block;
    if (shift->file != file_number(relation) || buffer <= 0 || buffer > NBuffers ||
        GetBufferDescriptor(buffer - 1)->tag.blockNum != block)
        return InvalidBuffer;
    return static_cast<Buffer>(buffer);
}

void remember(Buffer *place, Relation relation, BlockNumber block, Buffer buffer) {
    *place = buffer;
    *shift_of(relation) = {file_number(relation), static_cast<int64>(buffer) - block};
}

// Neighbouring blocks of a relation have places of their own.
uint32 place_number(Relation relation, BlockNumber block) {
    return (block + file_number(relation) * 0x9E3779B1U) & place_mask;
}

Buffer *place_of(Relation relation, BlockNumber block) {
    if (places == nullptr)
        allocate_places();
    Buffer *place = &places[place_number(relation, block)];
    if (*place == InvalidBuffer)
        *place = guess(relation, block);
    return place;
}

// Up to PostgreSQL 16 a pin by ReadRecentBuffer() does not count as a use, and what is never used
// is evicted first; so it is counted here, now and then, as PinBuffer() does it.
void count_use(Buffer buffer) {
    BufferDesc *descriptor = GetBufferDescriptor(buffer - 1);
    auto state = pg_atomic_read_u32(&descriptor->state);
    while (
        BUF_STATE_GET_USAGECOUNT(state) < BM_MAX_USAGE_COUNT && (state & BM_LOCKED) == 0 &&
        !pg_atomic_compare_exchange_u32(&descriptor->state, &state, state + BUF_USAGECOUNT_ONE)) {
    }
}

} // namespace

void prepare_place(Relation relation, BlockNumber block) {
    if (places != nullptr)
        __builtin_prefetch(&places[place_number(relation, block)]);
}

Buffer read_recent_buffer(Relation relation, BlockNumber block) {
    if (RelationUsesLocalBuffers(relation))
        return ReadBuffer(relation, block);
    Buffer *place = place_of(relation, block);
    if (*place != InvalidBuffer &&
        ReadRecentBuffer(file_locator(relation), MAIN_FORKNUM, block, *place)) {
        pgstat_count_buffer_read(relation);
        pgstat_count_buffer_hit(relation);
        if (++reads % kUsageInterval == 0)
            count_use(*place);
        return *place;
    }
    remember(place, relation, block, ReadBuffer(relation, block));
    return *place;
}

const char *prepare_recent_page(Relation relation, BlockNumber block) {
    if (RelationUsesLocalBuffers(relation))
        return nullptr;
    Buffer buffer = *place_of(relation, block);
    if (buffer == InvalidBuffer)
        return nullptr;
    __builtin_prefetch(GetBufferDescriptor(buffer - 1), 1);
    return BufferGetPage(buffer);
}

const char *prefetch_page(Relation relation, BlockNumber block) {
    if (const char *page = prepare_recent_page(relation, block); page != nullptr)
        return page;
    Buffer buffer = PrefetchBuffer(relation, MAIN_FORKNUM, block).recent_buffer;
    if (RelationUsesLocalBuffers(relation) || !BufferIsValid(buffer))
        return nullptr;
    remember(place_of(relation, block), relation, block, buffer);
    return BufferGetPage(buffer);
}

} // namespace pg
