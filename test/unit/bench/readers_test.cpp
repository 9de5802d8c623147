#include "test/bench/readers.h"

#include "test/unit/bench/files.h"

#include <gmock/gmock-matchers.h>

namespace {

using bench::read_idx;
using bench::read_vecs;
using bench::Vectors;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class Readers : public Files {};

std::string idx_file(uint32_t count, uint32_t rows, uint32_t columns, const std::string &bytes) {
    return big_endian(0x0803) + big_endian(count) + big_endian(rows) + big_endian(columns) + bytes;
}

TEST_F(Readers, IdxGivesTheBytesAsNumbers) {
    Vectors vectors = read_idx(write("images", idx_file(2, 2, 2, {"\0\1\2\3\4\5\6\xff", 8})));
    ASSERT_EQ(vectors.size(), 2U);
    EXPECT_THAT(vectors[0], ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(vectors[1], ElementsAre(4, 5, 6, 255));
}

TEST_F(Readers, IdxReadsNoMoreThanAskedFor) {
    EXPECT_EQ(read_idx(write("images", idx_file(3, 1, 2, "abcdef")), 2).size(), 2U);
}

TEST_F(Readers, IdxThatLiesIsAnError) {
    auto error = [&](const std::string &bytes) {
        return error_of([&] { read_idx(write("images", bytes)); });
    };
    EXPECT_THAT(error(idx_file(3, 2, 2, "12345678")), HasSubstr("shorter than its header"));
    EXPECT_THAT(error(idx_file(1, 2, 2, "12345678")), HasSubstr("longer than its header"));
    EXPECT_THAT(error(idx_file(0xffffffff, 0xffff, 0xffff, "")), HasSubstr("impossible"));
    EXPECT_THAT(error(idx_file(0xffffffff, 2, 2, "")), HasSubstr("too large"));
    EXPECT_THAT(error(idx_file(1, 1, 20000, std::string(20000, 'x'))), HasSubstr("20000 dim"));
    EXPECT_THAT(error(idx_file(1, 1, 0, "")), HasSubstr("impossible"));
    EXPECT_THAT(error(big_endian(0x0d03) + "more"), HasSubstr("not an IDX file of bytes"));
    EXPECT_THAT(error("ab"), HasSubstr("too short"));
    EXPECT_THAT(error_of([&] { read_idx(path("absent")); }), StartsWith(path("absent")));
}

TEST_F(Readers, FvecsGivesItsVectors) {
    Vectors vectors =
        read_vecs(write("a.fvecs", fvecs_record({1, -2.5, 3}) + fvecs_record({4, 5, 6e9})));
    ASSERT_EQ(vectors.size(), 2U);
    EXPECT_THAT(vectors[0], ElementsAre(1, -2.5, 3));
    EXPECT_THAT(vectors[1], ElementsAre(4, 5, 6e9F));
}

TEST_F(Readers, BvecsGivesItsBytes) {
    std::string record = little_endian(2) + "\x01\xff";
    Vectors vectors = read_vecs(write("a.bvecs", record + record + record), 2);
    ASSERT_EQ(vectors.size(), 2U);
    EXPECT_THAT(vectors[1], ElementsAre(1, 255));
}

TEST_F(Readers, VecsThatAreCutOffOrLieAreErrors) {
    auto error = [&](const std::string &bytes) {
        return error_of([&] { read_vecs(write("a.fvecs", bytes)); });
    };
    const std::string good = fvecs_record({1, 2, 3});
    EXPECT_THAT(error(good + good.substr(0, 9)), HasSubstr("ends within vector 1"));
    EXPECT_THAT(error(good + good.substr(0, 4)), HasSubstr("ends within vector 1"));
    EXPECT_THAT(error(good + good.substr(0, 2)), HasSubstr("ends within the dimension"));
    EXPECT_THAT(error(good + fvecs_record({1, 2})), HasSubstr("of 3 and of 2 dimensions"));
    EXPECT_THAT(error(little_endian(0xffffffff) + "x"), HasSubstr("4294967295 dimensions"));
    EXPECT_THAT(error(little_endian(0)), HasSubstr("0 dimensions"));
    EXPECT_THAT(error(""), HasSubstr("has no vectors"));
    EXPECT_THAT(error_of([&] { read_vecs(path("absent.fvecs")); }), HasSubstr("cannot open"));
}

} // namespace
