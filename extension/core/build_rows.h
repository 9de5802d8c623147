// What an index build has collected from the table: distinct vectors, each with its rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "extension/core/element.h"
#include "extension/core/vector_space.h"

namespace ann {

// Rows of equal vectors (bit by bit) become one entry. Not thread-safe but for consume().
class BuildRows {
  public:
    explicit BuildRows(const VectorSpace &space);

    // Throws std::bad_alloc, and std::length_error beyond 2^31 rows.
    void add(const void *vector, Tid tid);

    const VectorSpace &space() const { return space_; }
    uint32_t dim() const { return space_.dim; }
    uint32_t size() const { return static_cast<uint32_t>(entries_.size()); }
    uint64_t row_count() const { return rows_.size(); }
    // Bytes held now.
    size_t memory() const;

    // REQUIRES: not yet consumed.
    const void *vector(uint32_t entry) const {
        if (!space_.fixed_size())
            return places_[entry];
        return chunks_[entry / chunk_size_].get() + entry % chunk_size_ * bytes_;
    }
    // REQUIRES: the vectors are kept as floats.
    const float *floats(uint32_t entry) const { return static_cast<const float *>(vector(entry)); }
    // Call once after the last add() and before threads consume().
    void start_consuming();
    // The vector is not needed any more; a chunk of which none is needed is freed. Thread-safe.
    // REQUIRES: vectors of one size.
    void consume(uint32_t entry);

    // Calls f(Tid) for the entry's rows in the order of adding.
    template <typename F> void for_each_tid(uint32_t entry, F f) const {
        for (uint32_t row = entries_[entry].first; row != kNone; row = rows_[row].next)
            f(rows_[row].tid);
    }

  private:
    static constexpr uint32_t kNone = 0xFFFFFFFF;
    struct Row {
        Tid tid;
        uint32_t next;
    };
    struct Entry {
        uint32_t first;
        uint32_t last;
    };

    bool is_at(uint32_t entry, const void *vector, size_t bytes) const;
    uint32_t *find_place(const void *vector, size_t bytes);
    void grow_table();
    void append_vector(const void *vector, size_t bytes);
    uint8_t *room_for(size_t bytes);

    VectorSpace space_;
    size_t bytes_;        // of a vector of fixed size
    uint32_t chunk_size_; // vectors
    std::vector<std::unique_ptr<uint8_t[]>> chunks_;
    size_t vector_bytes_ = 0;             // in all
    std::vector<const uint8_t *> places_; // of vectors of different sizes
    size_t chunk_used_ = 0;               // of the last chunk, by those
    size_t chunk_bytes_ = 0;
    std::unique_ptr<std::atomic<uint32_t>[]> unconsumed_; // per chunk
    std::vector<Row> rows_;
    std::vector<Entry> entries_;
    std::vector<uint32_t> table_; // entries by hash, open addressing, at most half full
};

} // namespace ann
