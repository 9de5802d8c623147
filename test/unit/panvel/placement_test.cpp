#include "coordinator/core/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

using panvel::NodeLoad;
using panvel::plan_placements;

namespace {

std::vector<NodeLoad> idle_nodes(int count) {
    std::vector<NodeLoad> nodes;
    for (int i = 1; i <= count; i++)
        nodes.push_back({i, 0});
    return nodes;
}

int spread(const std::map<int32_t, int> &counts) {
    auto [low, high] = std::minmax_element(counts.begin(), counts.end(),
                                           [](auto &a, auto &b) { return a.second < b.second; });
    return high->second - low->second;
}

} // namespace

TEST(Placement, SpreadsEvenlyOverDifferentNodes) {
    for (int nodes : {1, 2, 3, 5, 16})
        for (uint32_t shards : {1u, 2u, 3u, 7u, 8u, 32u, 100u})
            for (uint32_t factor = 1; factor <= static_cast<uint32_t>(std::min(nodes, 5));
                 factor++) {
                SCOPED_TRACE(testing::Message()
                             << nodes << " nodes, " << shards << " shards, factor " << factor);
                auto plan = plan_placements(idle_nodes(nodes), shards, factor);
                ASSERT_EQ(plan.size(), shards);
                std::map<int32_t, int> leaders, placements;
                for (int i = 1; i <= nodes; i++)
                    leaders[i] = placements[i] = 0;
                for (const auto &shard : plan) {
                    ASSERT_EQ(shard.size(), factor);
                    ASSERT_EQ(std::set<int32_t>(shard.begin(), shard.end()).size(), factor);
                    leaders[shard[0]]++;
                    for (int32_t node : shard)
                        placements[node]++;
                }
                EXPECT_LE(spread(leaders), 1);
                EXPECT_LE(spread(placements), static_cast<int>(factor));
            }
}

TEST(Placement, TheRemainderGoesToTheNodesThatHoldLeast) {
    auto plan = plan_placements({{1, 9}, {2, 0}, {3, 4}}, 4, 1);
    std::vector<std::vector<int32_t>> expected = {{2}, {3}, {1}, {2}};
    EXPECT_EQ(plan, expected);
}

TEST(Placement, ALostNodesLoadFallsOnAllOthers) {
    auto plan = plan_placements(idle_nodes(4), 24, 2);
    std::map<int32_t, int> heirs;
    for (const auto &shard : plan)
        if (shard[0] == 1)
            heirs[shard[1]]++;
    std::map<int32_t, int> expected = {{2, 2}, {3, 2}, {4, 2}};
    EXPECT_EQ(heirs, expected);
}

TEST(Placement, RefusesAFactorAboveTheNumberOfNodes) {
    EXPECT_THROW(plan_placements(idle_nodes(2), 8, 3), std::invalid_argument);
    EXPECT_THROW(plan_placements(idle_nodes(2), 8, 0), std::invalid_argument);
    EXPECT_THROW(plan_placements({}, 8, 1), std::invalid_argument);
}
