#include "test/bench/readers.h"

#include "test/bench/idx.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <stdexcept>

namespace bench {

namespace {

constexpr uint32_t kMaxDim = 16000; // what type vector holds

uint32_t little_endian(const char *bytes) {
    uint32_t value = 0;
    for (int i = 3; i >= 0; i--)
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
}

} // namespace

Vectors read_idx(const std::string &path, size_t limit) {
    idx::File file = idx::read(path);
    if (file.width > kMaxDim)
        throw std::runtime_error(path + ": " + std::to_string(file.width) + " dimensions");
    Vectors vectors(file.width);
    size_t count = std::min(file.count, limit);
    vectors.reserve(count);
    for (size_t i = 0; i < count; i++)
        std::copy_n(file.item(i), file.width, vectors.add().begin());
    return vectors;
}

Vectors read_vecs(const std::string &path, size_t limit) {
    auto fail = [&](const std::string &what) -> void {
        throw std::runtime_error(path + ": " + what);
    };
    const size_t width = path.ends_with(".bvecs") ? 1 : sizeof(float);
    std::ifstream file(path, std::ios::binary);
    if (!file)
        fail("cannot open");
    Vectors vectors;
    std::vector<char> record;
    char head[4];
    while (vectors.size() < limit && file.read(head, sizeof(head))) {
        uint32_t dim = little_endian(head);
        if (dim < 1 || dim > kMaxDim)
            fail("vector " + std::to_string(vectors.size()) + " has " + std::to_string(dim) +
                 " dimensions");
        if (vectors.dim() == 0) {
            vectors = Vectors(dim);
            record.resize(dim * width);
        }
        if (dim != vectors.dim())
            fail("vectors of " + std::to_string(vectors.dim()) + " and of " + std::to_string(dim) +
                 " dimensions");
        if (!file.read(record.data(), static_cast<std::streamsize>(record.size())))
            fail("ends within vector " + std::to_string(vectors.size()));
        std::span<float> vector = vectors.add();
        for (size_t i = 0; i < dim; i++)
            vector[i] = width == 1 ? static_cast<float>(static_cast<unsigned char>(record[i]))
                                   : std::bit_cast<float>(little_endian(&record[i * width]));
    }
    if (vectors.size() < limit && file.gcount() != 0)
        fail("ends within the dimension of vector " + std::to_string(vectors.size()));
    if (vectors.size() == 0)
        fail("has no vectors");
    return vectors;
}

} // namespace bench
