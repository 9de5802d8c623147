#include "extension/core/build_rows.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace ann {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

uint64_t hash_vector(const void *vector, size_t bytes) {
    uint64_t hash = 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < bytes; i += sizeof(uint32_t)) {
        uint32_t bits = 0;
        std::memcpy(&bits, static_cast<const char *>(vector) + i,
                    std::min(sizeof(bits), bytes - i));
        hash = (hash ^ bits) * 0xFF51AFD7ED558CCDull;
        hash ^= hash >> 32;
    }
    return hash;
}

} // namespace

BuildRows::BuildRows(const VectorSpace &space)
    : space_(space), bytes_(space.bytes()),
      chunk_size_(static_cast<uint32_t>(std::max<size_t>(1, kChunkBytes / bytes_))),
      table_(1024, kNone) {}

bool BuildRows::is_at(uint32_t entry, const void *vector_to_find, size_t bytes) const {
    return space_.bytes(vector(entry)) == bytes &&
           std::memcmp(vector(entry), vector_to_find, bytes) == 0;
}

uint32_t *BuildRows::find_place(const void *vector_to_find, size_t bytes) {
    size_t mask = table_.size() - 1;
    for (size_t i = hash_vector(vector_to_find, bytes);; i++) {
        uint32_t &place = table_[i & mask];
        if (place == kNone || is_at(place, vector_to_find, bytes))
            return &place;
    }
}

void BuildRows::grow_table() {
    std::vector<uint32_t> larger(table_.size() * 2, kNone);
    table_.swap(larger);
    size_t mask = table_.size() - 1;
    for (uint32_t entry = 0; entry < entries_.size(); entry++) {
        size_t i = hash_vector(vector(entry), space_.bytes(vector(entry)));
        while (table_[i & mask] != kNone)
            i++;
        table_[i & mask] = entry;
    }
}

uint8_t *BuildRows::room_for(size_t bytes) {
    size_t entry = entries_.size();
    if (space_.fixed_size()) {
        if (entry / chunk_size_ == chunks_.size())
            chunks_.push_back(std::make_unique_for_overwrite<uint8_t[]>(chunk_size_ * bytes_));
        return chunks_[entry / chunk_size_].get() + entry % chunk_size_ * bytes_;
    }
    if (chunks_.empty() || chunk_used_ + bytes > chunk_bytes_) {
        chunk_bytes_ = std::max(kChunkBytes, bytes);
        chunk_used_ = 0;
        chunks_.push_back(std::make_unique_for_overwrite<uint8_t[]>(chunk_bytes_));
    }
    uint8_t *room = chunks_.back().get() + chunk_used_;
    chunk_used_ += bytes;
    places_.push_back(room);
    return room;
}

void BuildRows::append_vector(const void *vector_to_add, size_t bytes) {
    std::memcpy(room_for(bytes), vector_to_add, bytes);
    vector_bytes_ += bytes;
}

void BuildRows::add(const void *vector_to_add, Tid tid) {
    if (rows_.size() >= 0x7FFFFFFF)
        throw std::length_error("too many rows for one hnsw build");
    if ((entries_.size() + 1) * 2 > table_.size())
        grow_table();
    uint32_t row = static_cast<uint32_t>(rows_.size());
    size_t bytes = space_.bytes(vector_to_add);
    uint32_t *place = find_place(vector_to_add, bytes);
    if (*place == kNone) {
        append_vector(vector_to_add, bytes);
        rows_.push_back({tid, kNone});
        *place = static_cast<uint32_t>(entries_.size());
        entries_.push_back({row, row});
        return;
    }
    rows_.push_back({tid, kNone});
    Entry &entry = entries_[*place];
    rows_[entry.last].next = row;
    entry.last = row;
}

size_t BuildRows::memory() const {
    return vector_bytes_ + places_.capacity() * sizeof(uint8_t *) + rows_.capacity() * sizeof(Row) +
           entries_.capacity() * sizeof(Entry) + table_.size() * sizeof(uint32_t);
}

void BuildRows::start_consuming() {
    table_ = {};
    unconsumed_ = std::make_unique<std::atomic<uint32_t>[]>(chunks_.size());
    for (size_t chunk = 0; chunk < chunks_.size(); chunk++)
        unconsumed_[chunk] = static_cast<uint32_t>(
            std::min<size_t>(chunk_size_, entries_.size() - chunk * chunk_size_));
}

void BuildRows::consume(uint32_t entry) {
    size_t chunk = entry / chunk_size_;
    if (unconsumed_[chunk].fetch_sub(1) == 1)
        chunks_[chunk].reset();
}

} // namespace ann
