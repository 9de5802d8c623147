#include "test/bench/idx.h"

#include <zlib.h>

#include <memory>
#include <stdexcept>

namespace idx {

File read(const std::string &path) {
    constexpr size_t kMaxBytes = size_t{1} << 30;
    auto fail = [&](const char *what) { throw std::runtime_error(path + ": " + what); };
    struct Close {
        void operator()(gzFile file) const { gzclose(file); }
    };
    std::unique_ptr<gzFile_s, Close> file(gzopen(path.c_str(), "rb"));
    if (!file)
        fail("cannot open");
    auto read32 = [&] {
        uint8_t b[4];
        if (gzread(file.get(), b, 4) != 4)
            fail("not an IDX file: too short");
        return uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | b[3];
    };
    uint32_t magic = read32();
    uint32_t dimensions = magic & 0xff;
    if (magic >> 8 != 0x08 || dimensions < 1 || dimensions > 4)
        fail("not an IDX file of bytes");
    File result;
    result.count = read32();
    result.width = 1;
    for (uint32_t i = 1; i < dimensions; i++) {
        size_t size = read32();
        if (size == 0 || result.width > kMaxBytes / size)
            fail("impossible dimensions");
        result.width *= size;
    }
    if (result.count > kMaxBytes / result.width)
        fail("too large");
    result.bytes.resize(result.count * result.width);
    int length = static_cast<int>(result.bytes.size());
    if (gzread(file.get(), result.bytes.data(), static_cast<unsigned>(length)) != length)
        fail("shorter than its header says");
    char more = 0;
    if (gzread(file.get(), &more, 1) != 0)
        fail("longer than its header says");
    return result;
}

} // namespace idx
