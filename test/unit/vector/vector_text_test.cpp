#include "extension/core/vector_text.h"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace {

using ann::VectorTextError;

constexpr size_t kMaxDim = 16000;

struct Parsed {
    VectorTextError error;
    std::vector<float> x;
    std::string token;
};

// Through a buffer of exactly the size that count_vector_text() promises to be enough.
Parsed parse(const std::string &text, size_t max_dim = kMaxDim) {
    std::vector<float> buffer(ann::count_vector_text(text.c_str(), max_dim));
    buffer.shrink_to_fit();
    auto result = ann::parse_vector_text(text.c_str(), buffer.data(), max_dim);
    EXPECT_LE(result.dim, buffer.size());
    if (result.error == VectorTextError::kNone) {
        EXPECT_EQ(result.dim, buffer.size());
    }
    buffer.resize(result.dim);
    return {result.error, buffer,
            std::string(result.token ? result.token : "", result.token_length)};
}

void expect_vector(const std::string &text, const std::vector<float> &expected) {
    SCOPED_TRACE(text);
    Parsed parsed = parse(text);
    EXPECT_EQ(parsed.error, VectorTextError::kNone);
    ASSERT_EQ(parsed.x.size(), expected.size());
    for (size_t i = 0; i < expected.size(); i++)
        EXPECT_EQ(std::bit_cast<uint32_t>(parsed.x[i]), std::bit_cast<uint32_t>(expected[i]));
}

TEST(VectorText, ReadsNumbersInAllTheirForms) {
    expect_vector("[1,2,3]", {1, 2, 3});
    expect_vector("[-1,-2.5,+3]", {-1, -2.5F, 3});
    expect_vector("[1.,.5,-.5,+.5,00012]", {1, 0.5F, -0.5F, 0.5F, 12});
    expect_vector("[1e3,1E3,1e+3,1e-3,-1.25e-2]", {1000, 1000, 1000, 0.001F, -0.0125F});
    expect_vector("[0x10,0X1p3,-0x.8p1,+0x1]", {16, 8, -1, 1});
    expect_vector("[0,-0,-0.0]", {0, -0.0F, -0.0F});
    expect_vector("[3.4028235e38,-3.4028235e38,1.1754944e-38,1e-45]",
                  {3.4028235e38F, -3.4028235e38F, 1.1754944e-38F, 1e-45F});
    expect_vector("[0.1,0.10000000149011612,16777217,16777219]", {0.1F, 0.1F, 16777216, 16777220});
}

TEST(VectorText, AllowsWhiteSpaceAroundEverything) {
    expect_vector(" [ 1,  2 ,    3  ] ", {1, 2, 3});
    expect_vector("\t\n\v\f\r[\t1\n,\v2\f]\r\n", {1, 2});
}

TEST(VectorText, UnderflowIsZero) {
    expect_vector("[1e-46,-1e-46,1e-400,-1e-99999,0x1p-200]", {0, -0.0F, 0, -0.0F, 0});
    expect_vector("[0e999999,-0.000e999999]", {0, -0.0F});
    expect_vector("[0." + std::string(500, '0') + "1]", {0});
}

TEST(VectorText, OverflowNamesTheNumber) {
    for (std::string number : {"4e38", "-4e38", "1e400", "+1e99999", "3.4028236e38", "0x1p128"}) {
        Parsed parsed = parse("[1, " + number + " ,3]");
        EXPECT_EQ(parsed.error, VectorTextError::kOutOfRange) << number;
        EXPECT_EQ(parsed.token, number);
    }
    EXPECT_EQ(parse("[1" + std::string(400, '0') + "]").error, VectorTextError::kOutOfRange);
}

TEST(VectorText, RefusesNaNAndInfinity) {
    for (std::string number : {"NaN", "nan", "-NaN", "nan(1)", "+nan"})
        EXPECT_EQ(parse("[" + number + "]").error, VectorTextError::kNan) << number;
    for (std::string number : {"Infinity", "inf", "-inf", "-INFINITY", "+Inf"})
        EXPECT_EQ(parse("[" + number + "]").error, VectorTextError::kInfinite) << number;
}

TEST(VectorText, TellsWhatIsMalformed) {
    for (std::string text : {"", " ", "1,2,3", "{1}", "]", "(1)"})
        EXPECT_EQ(parse(text).error, VectorTextError::kNoOpening) << text;
    for (std::string text :
         {"[",      "[ ",        "[,",    "[,]",   "[1,]",  "[1a]",    "[1,,3]", "[1, ,3]",
          "[1,2,3", "[hello,1]", "[1 2]", "[1;2]", "[--1]", "[+-1]",   "[- 1]",  "[.]",
          "[e5]",   "[1e]",      "[1e+]", "[[1]]", "[0x]",  "[1.2.3]", "[\"1\"]"})
        EXPECT_EQ(parse(text).error, VectorTextError::kSyntax) << text;
    for (std::string text : {"[]", "[ ]", "  [\t]"})
        EXPECT_EQ(parse(text).error, VectorTextError::kEmpty) << text;
    for (std::string text : {"[1,2,3]9", "[1]]", "[1],", "[1] [2]", "[1],[2]"})
        EXPECT_EQ(parse(text).error, VectorTextError::kJunk) << text;
}

TEST(VectorText, LimitsTheDimension) {
    std::string text = "[1";
    for (int i = 1; i < 16000; i++)
        text += ",1";
    EXPECT_EQ(parse(text + "]").x.size(), 16000U);
    EXPECT_EQ(parse(text + ",1]").error, VectorTextError::kTooMany);
    EXPECT_EQ(parse(text + ",1").error, VectorTextError::kTooMany);
    EXPECT_EQ(parse("[1,2,3]", 2).error, VectorTextError::kTooMany);
    EXPECT_EQ(parse("[1,2]", 2).error, VectorTextError::kNone);
}

TEST(VectorText, ReadsEveryFloatBackFromItsShortestForm) {
    std::mt19937 random(1);
    for (int draw = 0; draw < 200000; draw++) {
        float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
        if (!std::isfinite(value))
            continue;
        char text[64] = "[";
        char *end = std::to_chars(text + 1, text + 60, value).ptr;
        *end++ = ']';
        *end = '\0';
        float back;
        auto result = ann::parse_vector_text(text, &back, 1);
        ASSERT_EQ(result.error, VectorTextError::kNone) << text;
        ASSERT_EQ(std::bit_cast<uint32_t>(back), std::bit_cast<uint32_t>(value)) << text;
    }
}

TEST(VectorText, RoundsLikeStrtof) {
    std::mt19937_64 random(2);
    for (int draw = 0; draw < 100000; draw++) {
        // Digits and exponents that reach into denormals and beyond the range.
        int exponent = static_cast<int>(random() % 100) - 60;
        std::string number = std::to_string(random()) + "e" + std::to_string(exponent);
        float expected = std::strtof(number.c_str(), nullptr);
        Parsed parsed = parse("[" + number + "]");
        if (std::isinf(expected)) {
            ASSERT_EQ(parsed.error, VectorTextError::kOutOfRange) << number;
        } else {
            ASSERT_EQ(parsed.error, VectorTextError::kNone) << number;
            ASSERT_EQ(parsed.x.at(0), expected) << number;
        }
    }
}

} // namespace
