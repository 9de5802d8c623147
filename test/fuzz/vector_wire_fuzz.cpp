// Random bytes as the binary form of `vector`, `halfvec` and `sparsevec`: what is accepted holds
// finite elements and, of a sparse vector, ascending indices, and says the same as the bytes.
#include <cmath>
#include <cstring>
#include <vector>

#include "extension/core/vector_wire.h"
#include "test/fuzz/fuzz.h"

namespace {

using fuzz::require;

// Big-endian.
uint32_t word(const std::string &bytes, size_t at, size_t size) {
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
    return value;
}

// The bytes after the first, as elements; a buffer of exactly the size, at an odd address.
template <typename T> bool check_dense(const std::string &input) {
    size_t dim = (input.size() - 1) / sizeof(T);
    std::vector<char> bytes(input.begin(),
                            input.begin() + static_cast<ptrdiff_t>(1 + dim * sizeof(T)));
    std::vector<T> x(dim);
    if (ann::read_wire(bytes.data() + 1, dim, x.data()) != ann::WireError::kNone)
        return false;
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits;
        if constexpr (sizeof(T) == 2) {
            require(ann::is_finite(x[i]), "accepted a half that is not finite", input);
            bits = x[i].bits;
        } else {
            require(std::isfinite(x[i]), "accepted a float that is not finite", input);
            std::memcpy(&bits, &x[i], sizeof(bits));
        }
        require(bits == word(input, 1 + i * sizeof(T), sizeof(T)), "another element", input);
    }
    return true;
}

bool check_sparse(const std::string &input) {
    if (input.size() < 5)
        return false;
    auto dim = static_cast<int32_t>(word(input, 1, 4));
    size_t count = (input.size() - 5) / 8;
    std::vector<char> bytes(input.begin() + 5,
                            input.begin() + static_cast<ptrdiff_t>(5 + 8 * count));
    std::vector<int32_t> indices(count);
    std::vector<float> values(count);
    if (ann::read_sparse_wire(bytes.data(), count, dim, indices.data(), values.data()) !=
        ann::WireError::kNone)
        return false;
    for (size_t i = 0; i < count; i++) {
        require(indices[i] >= 0 && indices[i] < dim && (i == 0 || indices[i] > indices[i - 1]),
                "accepted an invalid index", input);
        require(std::isfinite(values[i]) && values[i] != 0, "accepted an invalid value", input);
    }
    return true;
}

// The first byte says which type.
bool check(const std::string &input) {
    if (input.empty())
        return false;
    switch (static_cast<uint8_t>(input[0]) % 3) {
    case 0:
        return check_dense<float>(input);
    case 1:
        return check_dense<ann::Half>(input);
    default:
        return check_sparse(input);
    }
}

void append(std::string &bytes, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        bytes += static_cast<char>(value >> shift);
}

// Bytes of which a good part is acceptable.
[[maybe_unused]] std::string make(fuzz::Random &random) {
    static const char *const kPieces[] = {"\xff", "\x7f\x80", "\x7c", "\xfc", "\x80", "a"};
    std::string bytes(1, static_cast<char>(random()));
    size_t count = random() % 64 == 0 ? random() % 16000 : random() % 12;
    if (static_cast<uint8_t>(bytes[0]) % 3 == 2) {
        append(bytes, random() % 8 == 0 ? static_cast<uint32_t>(random()) : 1000000000);
        uint32_t index = 0;
        for (size_t i = 0; i < count; i++)
            append(bytes, index += 1 + random() % 100);
    }
    for (size_t i = 0; i < count; i++)
        append(bytes, static_cast<uint32_t>(random()) & 0xbfffbfff);
    fuzz::mutate(random, kPieces, bytes);
    return bytes;
}

} // namespace

FUZZ_MAIN(make, check)
