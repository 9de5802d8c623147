#include "coordinator/core/health.h"

#include <gtest/gtest.h>

using namespace panvel;

namespace {
constexpr int64_t kSecond = 1000 * 1000;
constexpr int64_t kLimit = 5 * kSecond;

// Looks every tenth of a second.
void look_until(Health *health, int64_t from, int64_t to) {
    for (int64_t now = from; now <= to; now += kSecond / 10)
        look(health, now);
}
} // namespace

TEST(Health, AnswersMakeItUp) {
    Health health = {};
    EXPECT_EQ(health.reach, Reach::kUnknown);
    asked(&health, 1 * kSecond);
    answered(&health, 2 * kSecond);
    EXPECT_EQ(health.reach, Reach::kUp);
    EXPECT_EQ(health.since, 2 * kSecond);
    answered(&health, 3 * kSecond);
    EXPECT_EQ(health.since, 2 * kSecond);
    look_until(&health, 3 * kSecond, 100 * kSecond);
    EXPECT_FALSE(is_silent(health, kLimit));
}

TEST(Health, SilenceCountsFromTheFirstQuestion) {
    Health health = {};
    answered(&health, 1 * kSecond);
    asked(&health, 10 * kSecond);
    look_until(&health, 10 * kSecond, 12 * kSecond);
    asked(&health, 12 * kSecond); // asked again, over another connection
    look_until(&health, 12 * kSecond, 14 * kSecond);
    EXPECT_FALSE(is_silent(health, kLimit));
    note_silence(&health, 14 * kSecond, kLimit);
    EXPECT_EQ(health.reach, Reach::kUp);
    look_until(&health, 14 * kSecond, 15 * kSecond);
    EXPECT_TRUE(is_silent(health, kLimit));
    note_silence(&health, 15 * kSecond, kLimit);
    EXPECT_EQ(health.reach, Reach::kDown);
    EXPECT_TRUE(is_gone(health, kLimit));
    answered(&health, 16 * kSecond);
    EXPECT_EQ(health.reach, Reach::kUp);
    EXPECT_FALSE(is_gone(health, kLimit));
}

TEST(Health, AServerIsNotBlamedForAGap) {
    Health health = {};
    asked(&health, 1 * kSecond);
    look(&health, 100 * kSecond); // the coordinator was stopped
    EXPECT_EQ(health.silence, kSecond / 2);
    look(&health, 50 * kSecond); // the clock was set back
    EXPECT_EQ(health.silence, kSecond / 2);
}

TEST(Health, AQuickRefusalIsWorthAnotherTry) {
    Health health = {};
    asked(&health, 1 * kSecond);
    refused(&health, 1 * kSecond + 1000, 1000);
    EXPECT_EQ(health.reach, Reach::kDown);
    EXPECT_FALSE(is_gone(health, kLimit));
}

TEST(Health, ASlowOneIsNot) {
    Health health = {};
    asked(&health, 1 * kSecond);
    refused(&health, 4 * kSecond, 3 * kSecond); // no route to host
    EXPECT_TRUE(is_gone(health, kLimit));
    answered(&health, 5 * kSecond);
    EXPECT_FALSE(is_gone(health, kLimit));
    asked(&health, 6 * kSecond);
    look_until(&health, 6 * kSecond, 8 * kSecond);
    timed_out(&health, 8 * kSecond, 2 * kSecond);
    EXPECT_TRUE(is_gone(health, kLimit));
    EXPECT_FALSE(is_silent(health, kLimit)); // statements under way are not cut off yet
    look_until(&health, 8 * kSecond, 11 * kSecond);
    EXPECT_TRUE(is_silent(health, kLimit));
}
