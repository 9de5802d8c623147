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

Buffer *place_of(Relation relation, BlockNumber block) {
    if (places == nullptr) {
        uint32 count = std::bit_ceil(Min(static_cast<uint32>(NBuffers), kMaxPlaces / 2)) * 2;
        places =
            static_cast<Buffer *>(MemoryContextAllocZero(TopMemoryContext, count * sizeof(Buffer)));
        place_mask = count - 1;
    }
    // Neighbouring blocks of a relation have places of their own.
    return &places[(block + file_number(relation) * 0x9E3779B1U) & place_mask];
}

} // namespace

Buffer read_recent_buffer(Relation relation, BlockNumber block) {
    if (RelationUsesLocalBuffers(relation))
        return ReadBuffer(relation, block);
    Buffer *place = place_of(relation, block);
    // Up to PostgreSQL 16 a pin by ReadRecentBuffer() does not count as a use, and what is never
    // used is evicted first; so now and then a page is read the ordinary way.
    bool counts = ++reads % kUsageInterval == 0;
    if (*place != InvalidBuffer && !counts &&
        ReadRecentBuffer(file_locator(relation), MAIN_FORKNUM, block, *place)) {
        pgstat_count_buffer_read(relation);
        pgstat_count_buffer_hit(relation);
        return *place;
    }
    return *place = ReadBuffer(relation, block);
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

} // namespace pg
