// Reader of IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist): a big-endian magic
// number 0x0000TTDD (type TT = 08: bytes; DD dimensions), the dimensions' sizes, the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace idx {

struct File {
    size_t count = 0;           // first dimension: how many items
    size_t width = 0;           // bytes of one item: the product of the other dimensions, or 1
    std::vector<uint8_t> bytes; // count * width

    const uint8_t *item(size_t index) const { return bytes.data() + index * width; }
};

// Reads a file, compressed with gzip or not. Throws std::runtime_error, which names the file.
File read(const std::string &path);

} // namespace idx
