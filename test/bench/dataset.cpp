#include "test/bench/dataset.h"

#include <algorithm>
#include <filesystem>
#include <stdexcept>

namespace bench {

namespace {

// How much of [first, first + 1) lies in [low, high).
double overlap(size_t first, double low, double high) {
    double begin = std::max(low, static_cast<double>(first));
    double end = std::min(high, static_cast<double>(first) + 1);
    return std::max(0.0, end - begin);
}

// The 60,000 training images and the 10,000 test images; or the test images alone, the last
// `options.queries` of which are the queries then.
void load_mnist(const DatasetOptions &options, Dataset &data) {
    const std::string train = options.path + "/train-images-idx3-ubyte.gz";
    Vectors test = read_idx(options.path + "/t10k-images-idx3-ubyte.gz");
    if (std::filesystem::exists(train)) {
        data.base = read_idx(train, options.limit);
        data.queries = std::move(test);
    } else {
        size_t base = test.size() - std::min(test.size() / 2, options.queries);
        data.queries = test.slice(base, test.size());
        data.base = test.slice(0, std::min(base, options.limit));
    }
    data.name = "MNIST";
}

void load_vecs(const DatasetOptions &options, Dataset &data) {
    const size_t at = options.path.rfind("base");
    if (at == std::string::npos)
        throw std::runtime_error(options.path +
                                 ": expected a name like X_base.fvecs beside X_query.fvecs");
    std::string queries = options.path;
    queries.replace(at, 4, "query");
    data.base = read_vecs(options.path, options.limit);
    data.queries = read_vecs(queries);
    data.name = std::filesystem::path(options.path).stem();
}

void load_hdf5(const DatasetOptions &options, Dataset &data) {
    data.base = read_hdf5(options.path, "train", options.limit);
    data.queries = read_hdf5(options.path, "test");
    data.name = std::filesystem::path(options.path).stem();
}

Metric metric_of(const DatasetOptions &options) {
    std::string name = options.metric;
    if (name.empty() && options.path.ends_with(".hdf5"))
        name = hdf5_distance(options.path);
    if (name.empty() || name == "l2" || name == "euclidean")
        return Metric::kL2;
    if (name == "cosine" || name == "angular")
        return Metric::kCosine;
    throw std::runtime_error(options.path + ": no benchmark for distance \"" + name + "\"");
}

// Fresh vectors: queries beyond those wanted; where there are too few, the last of the base too.
void set_aside(const DatasetOptions &options, Dataset &data) {
    const size_t queries = std::min(options.queries, data.queries.size());
    const size_t beyond = std::min(options.fresh, data.queries.size() - queries);
    data.fresh = data.queries.slice(queries, queries + beyond);
    data.queries.truncate(queries);
    const size_t taken = std::min(options.fresh - beyond, data.base.size() / 10);
    const size_t kept = data.base.size() - taken;
    for (size_t i = kept; i < data.base.size(); i++)
        data.fresh.add(data.base[i]);
    data.base.truncate(kept);
}

} // namespace

Vectors resample(const Vectors &images, size_t from, size_t to) {
    if (images.dim() != from * from)
        throw std::runtime_error("images of " + std::to_string(images.dim()) +
                                 " values cannot be resampled");
    const double step = static_cast<double>(from) / static_cast<double>(to);
    std::vector<double> weights(to * from); // of value x in result i, along one side
    for (size_t i = 0; i < to; i++)
        for (size_t x = 0; x < from; x++)
            weights[i * from + x] =
                overlap(x, static_cast<double>(i) * step, static_cast<double>(i + 1) * step) / step;
    Vectors result(to * to);
    result.reserve(images.size());
    std::vector<double> rows(to * from);
    for (size_t image = 0; image < images.size(); image++) {
        std::span<const float> source = images[image];
        std::ranges::fill(rows, 0);
        for (size_t i = 0; i < to; i++)
            for (size_t y = 0; y < from; y++)
                for (size_t x = 0; x < from; x++)
                    rows[i * from + x] += weights[i * from + y] * source[y * from + x];
        std::span<float> target = result.add();
        for (size_t i = 0; i < to; i++)
            for (size_t j = 0; j < to; j++) {
                double sum = 0;
                for (size_t x = 0; x < from; x++)
                    sum += weights[j * from + x] * rows[i * from + x];
                target[i * to + j] = static_cast<float>(sum);
            }
    }
    return result;
}

Dataset load(const DatasetOptions &options) {
    Dataset data;
    if (options.path.ends_with(".fvecs") || options.path.ends_with(".bvecs"))
        load_vecs(options, data);
    else if (options.path.ends_with(".hdf5"))
        load_hdf5(options, data);
    else if (std::filesystem::is_directory(options.path))
        load_mnist(options, data);
    else
        throw std::runtime_error(options.path +
                                 ": neither a directory with MNIST nor .fvecs, .bvecs or .hdf5");
    data.metric = metric_of(options);
    if (data.base.dim() != data.queries.dim())
        throw std::runtime_error(options.path + ": base and queries differ in dimensions");
    set_aside(options, data);
    if (data.base.size() < 100 || data.queries.size() == 0)
        throw std::runtime_error(options.path + ": too few vectors or queries");
    if (options.resample) {
        data.name += " resampled to 16 x 16";
        for (Vectors *part : {&data.base, &data.queries, &data.fresh})
            if (part->size() > 0)
                *part = resample(*part, 28, 16);
    }
    return data;
}

} // namespace bench
