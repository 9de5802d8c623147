// What an index build has collected from the table: distinct vectors, each with its rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "extension/core/element.h"

namespace ann {

// Rows of equal vectors (bit by bit) become one entry. Not thread-safe but for consume().
class BuildRows {
  public:
    explicit BuildRows(uint32_t dim);

    // Throws std::bad_alloc, and std::length_error beyond 2^31 rows.
    void add(const float *vector, Tid tid);

    uint32_t dim() const { return dim_; }
    uint32_t size() const { return static_cast<uint32_t>(entries_.size()); }
    uint64_t row_count() const { return rows_.size(); }
    // Bytes held now.
    size_t memory() const;

    // REQUIRES: not yet consumed.
    const float *vector(uint32_t entry) const {
        return chunks_[entry / chunk_size_].get() + static_cast<size_t>(entry % chunk_size_) * dim_;
    }
    // Call once after the last add() and before threads consume().
    void start_consuming();
    // The vector is not needed any more; a chunk of which none is needed is freed. Thread-safe.
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

    uint32_t *find_place(const float *vector);
    void grow_table();
    void append_vector(const float *vector);

    uint32_t dim_;
    uint32_t chunk_size_; // vectors
    std::vector<std::unique_ptr<float[]>> chunks_;
    std::unique_ptr<std::atomic<uint32_t>[]> unconsumed_; // per chunk
    std::vector<Row> rows_;
    std::vector<Entry> entries_;
    std::vector<uint32_t> table_; // entries by hash, open addressing, at most half full
};

} // namespace ann
