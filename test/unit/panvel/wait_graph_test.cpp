#include "coordinator/core/wait_graph.h"

#include <gtest/gtest.h>

#include <random>

using namespace panvel;

namespace {

Party here(int pid) {
    return {kHere, pid};
}

Wait wait(int waiter, int blocker, int place, int64_t since = 1) {
    return {here(waiter), here(blocker), place, since, 1000 + waiter, 1000 + blocker};
}

std::optional<int64_t> by_pid(const Party &party) {
    return party.server == kHere ? std::optional<int64_t>(party.pid) : std::nullopt;
}

} // namespace

TEST(WaitGraph, TwoPartiesOnTwoServers) {
    auto circle = find_circle({wait(1, 2, 0), wait(2, 1, 1)});
    ASSERT_EQ(circle.size(), 2u);
    EXPECT_EQ(choose_victim(circle, by_pid), here(2));
}

TEST(WaitGraph, ThreePartiesOneOfThemOnTheCoordinator) {
    auto circle = find_circle({wait(1, 2, 0), wait(2, 3, 1), wait(3, 1, kHere), wait(4, 1, 0)});
    ASSERT_EQ(circle.size(), 3u);
    EXPECT_EQ(choose_victim(circle, by_pid), here(2)); // 3 waits here, where nobody can tell it
}

TEST(WaitGraph, WhoWaitsHereDoesNotLookAtItsNodes) {
    std::vector<Wait> waits = {wait(2, 1, 0), wait(2, 1, kHere), wait(1, 2, 1)};
    auto circle = find_circle(attended_waits(waits));
    ASSERT_EQ(circle.size(), 2u);
    EXPECT_EQ(choose_victim(circle, by_pid), here(1));
    waits[1] = wait(2, 3, kHere); // 3 is busy: a deadlock only when 2 looks again
    EXPECT_TRUE(find_circle(attended_waits(waits)).empty());
}

TEST(WaitGraph, NoCircle) {
    EXPECT_TRUE(find_circle({}).empty());
    EXPECT_TRUE(find_circle({wait(1, 2, 0), wait(2, 3, 1), wait(1, 3, 1)}).empty());
}

TEST(WaitGraph, ACircleOnOneServerIsThatServers) {
    EXPECT_TRUE(find_circle({wait(1, 2, 0), wait(2, 1, 0)}).empty());
    EXPECT_TRUE(find_circle({wait(1, 2, kHere), wait(2, 1, kHere)}).empty());
}

TEST(WaitGraph, RolesOfOneTransaction) {
    // One role of 1 waits for another, alone and by way of 2: the server sees no circle.
    EXPECT_EQ(find_circle({{here(1), here(1), 0, 1, 11, 12}}).size(), 1u);
    EXPECT_EQ(
        find_circle({{here(1), here(2), 0, 1, 11, 20}, {here(2), here(1), 0, 1, 20, 12}}).size(),
        2u);
    EXPECT_TRUE(
        find_circle({{here(1), here(2), 0, 1, 11, 20}, {here(2), here(1), 0, 1, 20, 11}}).empty());
}

TEST(WaitGraph, ASessionOfTheWorkersOwnIsNoVictim) {
    Party foreign = {1, 77};
    std::vector<Wait> waits = {
        {here(1), foreign, 1, 1, 10, 77}, {foreign, here(2), 1, 1, 77, 12}, wait(2, 1, 0)};
    auto circle = find_circle(waits);
    ASSERT_EQ(circle.size(), 3u);
    EXPECT_EQ(choose_victim(circle, by_pid), here(2));
}

TEST(WaitGraph, OnlyWhatIsInBothSamplesLasts) {
    auto lasting = lasting_waits({wait(1, 2, 0, 5), wait(2, 1, 1, 6), wait(1, 2, 0, 5)},
                                 {wait(1, 2, 0, 5), wait(2, 1, 1, 7)});
    ASSERT_EQ(lasting.size(), 1u);
    EXPECT_TRUE(find_circle(lasting).empty());
}

TEST(WaitGraph, ACircleAmongMany) {
    std::mt19937 random(1);
    for (int round = 0; round < 200; round++) {
        // Waits for a smaller number make no circle; one more closes exactly one kind of it.
        std::vector<Wait> waits;
        for (int i = 2; i <= 40; i++)
            for (int j = 0; j < 3; j++)
                waits.push_back(wait(i, 1 + static_cast<int>(random() % (i - 1)),
                                     static_cast<int>(random() % 3) - 1));
        EXPECT_TRUE(find_circle(waits).empty());
        waits.push_back(wait(1, 40, 7));
        auto circle = find_circle(waits);
        ASSERT_FALSE(circle.empty());
        for (size_t i = 0; i < circle.size(); i++)
            EXPECT_EQ(circle[i].blocker, circle[(i + 1) % circle.size()].waiter);
    }
}
