#include "extension/core/build_rows.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace ann {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

uint64_t hash_vector(const float *vector, size_t dim) {
    uint64_t hash = 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits;
        std::memcpy(&bits, vector + i, sizeof(bits));
        hash = (hash ^ bits) * 0xFF51AFD7ED558CCDull;
        hash ^= hash >> 32;
    }
    return hash;
}

} // namespace

BuildRows::BuildRows(uint32_t dim)
    : dim_(dim),
      chunk_size_(static_cast<uint32_t>(std::max<size_t>(1, kChunkBytes / (dim * sizeof(float))))),
      table_(1024, kNone) {}

uint32_t *BuildRows::find_place(const float *vector_to_find) {
    size_t mask = table_.size() - 1;
    for (size_t i = hash_vector(vector_to_find, dim_);; i++) {
        uint32_t &place = table_[i & mask];
        if (place == kNone || std::memcmp(vector(place), vector_to_find, dim_ * sizeof(float)) == 0)
            return &place;
    }
}

void BuildRows::grow_table() {
    std::vector<uint32_t> larger(table_.size() * 2, kNone);
    table_.swap(larger);
    size_t mask = table_.size() - 1;
    for (uint32_t entry = 0; entry < entries_.size(); entry++) {
        size_t i = hash_vector(vector(entry), dim_);
        while (table_[i & mask] != kNone)
            i++;
        table_[i & mask] = entry;
    }
}

void BuildRows::append_vector(const float *vector_to_add) {
    size_t entry = entries_.size();
    if (entry / chunk_size_ == chunks_.size())
        chunks_.push_back(
            std::make_unique_for_overwrite<float[]>(static_cast<size_t>(chunk_size_) * dim_));
    float *place = chunks_[entry / chunk_size_].get() + (entry % chunk_size_) * dim_;
    std::memcpy(place, vector_to_add, dim_ * sizeof(float));
}

void BuildRows::add(const float *vector_to_add, Tid tid) {
    if (rows_.size() >= 0x7FFFFFFF)
        throw std::length_error("too many rows for one hnsw build");
    if ((entries_.size() + 1) * 2 > table_.size())
        grow_table();
    uint32_t row = static_cast<uint32_t>(rows_.size());
    uint32_t *place = find_place(vector_to_add);
    if (*place == kNone) {
        append_vector(vector_to_add);
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
    return entries_.size() * dim_ * sizeof(float) + rows_.capacity() * sizeof(Row) +
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
