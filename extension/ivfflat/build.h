// What the parts of a build share.
#pragma once

#include "extension/core/centroids.h"
#include "extension/core/worker_threads.h"
#include "extension/ivfflat/codes.h"
#include "extension/ivfflat/ivfflat.h"
#include "extension/ivfflat/list_search.h"

namespace ivf {

// A row on its way to its list.
struct BuildRow {
    ann::Tid tid;
    float multiplier;
    ann::MemberFactors factors;
    const uint8 *code;
    const uint8 *vector;
};

// The centroids, once k-means has found them.
struct BuildLists {
    std::vector<float> centroids; // lists x dim
    std::vector<float> scales;    // of the codes' centres (GroupHeader)
    std::vector<float> centers;   // with codes: lists x padded, scaled and rotated
    uint32 count() const { return static_cast<uint32>(scales.size()); }
};

// Batches of rows whose lists and codes are found on threads. Calls nothing of PostgreSQL.
class BuildBatch {
  public:
    BuildBatch(const IvfIndex &index, const BuildLists &lists);

    static uint32 capacity(const IvfIndex &index);

    bool full() const { return count_ == capacity_; }
    uint32 count() const { return count_; }
    void clear() { count_ = 0; }
    void add(const IndexedValue &value, ann::Tid tid);
    // A thread's share of the work.
    void work(const std::atomic<bool> &stop);
    void start_work() { next_ = 0; }
    // Afterwards:
    uint32 list(uint32 row) const { return lists_[row]; }
    BuildRow row(uint32 row) const;

  private:
    void encode(uint32 row, float *rotated);

    const IvfIndex &index_;
    const BuildLists &build_lists_;
    ann::NearestRows nearest_;
    uint32 capacity_, count_ = 0;
    uint32 vector_bytes_, code_bytes_;
    std::vector<float> floats_;
    std::vector<uint8> vectors_, codes_;
    std::vector<float> multipliers_, scores_;
    std::vector<ann::Tid> tids_;
    std::vector<uint32> lists_;
    std::vector<ann::MemberFactors> factors_;
    std::atomic<uint32> next_ = 0;
};

// The sample for k-means: collected from random blocks of the table.
struct Sample {
    float *points; // count x dim, of unit length where centroids are
    float *norms;  // what the points' lengths were
    uint32 count;
};
// REQUIRES: heap may not be NULL. Raises 54000 when maintenance_work_mem has no room for it.
Sample sample_rows(Relation heap, const IvfIndex *index, IndexInfo *info, uint32 lists);

// Writes lists, one after another, behind the pages there are. In palloc'd memory.
struct ListWriter {
    const IvfIndex *index;
    ForkNumber fork;
    BlockNumber next_block; // appended next
    Tier tier;
    BlockNumber first, group; // of the list
    uint64 left;              // members of the list that have not been added
    uint32 in_group, member;  // members of this group, and how many it has
    uint32 vector_page;       // number of the one being filled
    char *group_image, *vector_image;
};
ListWriter make_writer(const IvfIndex *index, ForkNumber fork);
// Begins a list of `count` members, which have to be added; returns its first group.
BlockNumber begin_list(ListWriter *writer, Tier tier, uint64 count, float scale,
                       float squared_norm);
// live: false for the root's centre.
void add_member(ListWriter *writer, const BuildRow &row, bool live = true);
// Writes the root of lists that begin at `firsts`, then the metapage.
void write_root(ListWriter *writer, const BuildLists &lists, const BlockNumber *firsts);

} // namespace ivf
