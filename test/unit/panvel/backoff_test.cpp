#include "coordinator/core/backoff.h"

#include <gtest/gtest.h>

#include <limits>

using panvel::Backoff;

TEST(Backoff, DoublesUpToTheLongest) {
    Backoff backoff(100, 1000);
    EXPECT_EQ(backoff.failed(), 100);
    EXPECT_EQ(backoff.failed(), 200);
    EXPECT_EQ(backoff.failed(), 400);
    EXPECT_EQ(backoff.failed(), 800);
    EXPECT_EQ(backoff.failed(), 1000);
    EXPECT_EQ(backoff.failed(), 1000);
}

TEST(Backoff, StartsAnewAfterSuccess) {
    Backoff backoff(100, 1000);
    backoff.failed();
    backoff.failed();
    backoff.succeeded();
    EXPECT_EQ(backoff.failed(), 100);
}

TEST(Backoff, DoesNotOverflow) {
    Backoff backoff(1, std::numeric_limits<int64_t>::max());
    for (int i = 0; i < 100; i++)
        EXPECT_GT(backoff.failed(), 0);
}
