#include "extension/ivfflat/build.h"

extern "C" {
#include "access/tableam.h"
#include "common/pg_prng.h"
#include "utils/sampling.h"
}

namespace ivf {
namespace {

constexpr uint32 kSamplesPerList = 50, kMinSamples = 10000;

struct Sampler {
    const IvfIndex *index;
    Sample sample;
    uint32 target;
    uint64 seen;
    pg_prng_state random;
    MemoryContext row_context;
};

// Each list's centroid has to be in memory, twice, and a sample for each.
uint32 sample_size(const IvfIndex *index, uint32 lists) {
    size_t limit = static_cast<size_t>(maintenance_work_mem) * 1024;
    size_t point = (index->meta.dim + 1) * sizeof(float);
    uint32 target = Max(lists * kSamplesPerList, kMinSamples);
    auto needed = [&](uint32 count) {
        return count * point + lists * static_cast<size_t>(index->list.padded) * sizeof(float) +
               ann::kmeans_bytes(count, index->meta.dim, lists);
    };
    while (target > lists && needed(target) > limit)
        target = Max(target - target / 8 - 1, lists);
    if (needed(target) > limit)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("memory required is %zu MB, maintenance_work_mem is %d MB",
                               needed(target) / (1024 * 1024) + 1, maintenance_work_mem / 1024)));
    return target;
}

void set_point(Sampler *sampler, uint32 place, const float *vector) {
    uint32 dim = sampler->index->meta.dim;
    float *point = sampler->sample.points + static_cast<size_t>(place) * dim;
    memcpy(point, vector, dim * sizeof(float));
    double norm = std::sqrt(ann::squared_norm(vector, dim));
    sampler->sample.norms[place] = static_cast<float>(norm);
    if (!sampler->index->form.spherical() || norm == 0)
        return;
    for (uint32 i = 0; i < dim; i++)
        point[i] = static_cast<float>(point[i] / norm);
}

// Vitter's algorithm R: every row is in the sample with the same probability.
void sample_row(Relation, ItemPointer, Datum *values, bool *is_null, bool, void *argument) {
    auto *sampler = static_cast<Sampler *>(argument);
    if (is_null[0])
        return;
    uint64 place = sampler->sample.count;
    if (place == sampler->target)
        place = pg_prng_uint64_range(&sampler->random, 0, sampler->seen);
    sampler->seen++;
    if (place >= sampler->target)
        return;
    MemoryContext before = MemoryContextSwitchTo(sampler->row_context);
    IndexedValue value = read_value(sampler->index->form, values[0]);
    if (value.floats != nullptr) {
        set_point(sampler, static_cast<uint32>(place), value.floats);
        sampler->sample.count = Max(sampler->sample.count, static_cast<uint32>(place) + 1);
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(sampler->row_context);
}

} // namespace

Sample sample_rows(Relation heap, const IvfIndex *index, IndexInfo *info, uint32 lists) {
    Sampler sampler = {};
    sampler.index = index;
    sampler.target = sample_size(index, lists);
    sampler.sample.points = static_cast<float *>(
        MemoryContextAllocHuge(CurrentMemoryContext, static_cast<size_t>(sampler.target) *
                                                         index->meta.dim * sizeof(float)));
    sampler.sample.norms = static_cast<float *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sampler.target * sizeof(float)));
    sampler.row_context =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat sample row", ALLOCSET_DEFAULT_SIZES);
    pg_prng_seed(&sampler.random, kMagic);
    BlockNumber blocks = RelationGetNumberOfBlocks(heap);
    BlockSamplerData chosen;
    BlockSampler_Init(&chosen, blocks, static_cast<int>(sampler.target), kMagic);
    while (BlockSampler_HasMore(&chosen)) {
        CHECK_FOR_INTERRUPTS();
        BlockNumber block = BlockSampler_Next(&chosen);
        table_index_build_range_scan(heap, index->relation, info, false, true, false, block, 1,
                                     sample_row, &sampler, nullptr);
    }
    MemoryContextDelete(sampler.row_context);
    return sampler.sample;
}

} // namespace ivf
