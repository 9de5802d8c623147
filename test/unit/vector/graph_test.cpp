// The pure parts of hnsw: containers, layout, selection, search, build.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "extension/core/graph_builder.h"
#include "extension/core/graph_search.h"
#include "extension/core/neighbor_selection.h"

namespace {

using namespace ann;

VectorSpace floats(uint32_t dim) {
    return {VectorForm::kFloats, Metric::kL2, dim};
}

// Frees everything at the end of a test.
struct TestArena {
    std::vector<std::unique_ptr<char[]>> blocks;
    Arena arena() {
        return {[](void *owner, size_t bytes) -> void * {
                    auto &blocks = static_cast<TestArena *>(owner)->blocks;
                    blocks.push_back(std::make_unique<char[]>(bytes));
                    return blocks.back().get();
                },
                [](void *, void *) {}, this};
    }
};

std::vector<float> random_vector(std::mt19937 &random, uint32_t dim) {
    std::normal_distribution<float> normal;
    std::vector<float> vector(dim);
    for (float &x : vector)
        x = normal(random);
    return vector;
}

// A built graph as graph_search.h sees it: block is the node.
struct MemoryGraph {
    GraphBuilder &builder;
    const float *query;
    std::set<uint32_t> dead = {};
    std::set<uint32_t> gone = {};
    std::map<uint32_t, std::vector<uint32_t>> added = {}; // neighbours

    Link entry() { return {builder.entry_point(), 0, 0}; }
    bool distance(Link link, Candidate *out) {
        if (gone.contains(link.block))
            return false;
        float distance = floats(12).distance(query, builder.vector(link.block));
        *out = {distance, !dead.contains(link.block), link};
        return true;
    }
    uint32_t neighbors(Link link, int level, Link *out) {
        uint32_t count = 0;
        if (gone.contains(link.block))
            return 0;
        if (level > 0) {
            uint32_t nodes[kMaxM];
            count = builder.upper_neighbors(link.block, level, nodes);
            for (uint32_t i = 0; i < count; i++)
                out[i] = {nodes[i], 0, 0};
            return count;
        }
        for (uint32_t node : builder.lists().of(link.block))
            if (node != kNoNode && !gone.contains(node))
                out[count++] = {node, 0, 0};
        for (uint32_t node : added[link.block])
            out[count++] = {node, 0, 0};
        return count;
    }
    // Estimates are wrong by up to a fifth.
    bool expand(Link link, Expansion *out) {
        if (!distance(link, &out->element))
            return false;
        out->count = neighbors(link, 0, out->links);
        for (uint32_t i = 0; i < out->count; i++) {
            Candidate next = {};
            distance(out->links[i], &next);
            uint32_t mixed = (link.block * 31 + out->links[i].block) * 2654435761u;
            out->estimates[i] = next.distance * (0.8f + 0.4f * (mixed >> 8) / (1 << 24));
        }
        return true;
    }
    void prepare(Link) {}
    void prepare_more() {}
    // As vacuum does it: what the removed one led to is linked from elsewhere.
    void remove(uint32_t node) {
        Link list[kMaxSlots];
        uint32_t count = neighbors({node, 0, 0}, 0, list);
        gone.insert(node);
        for (uint32_t i = 1; i < count; i++) {
            added[list[i - 1].block].push_back(list[i].block);
            added[list[i].block].push_back(list[i - 1].block);
        }
        for (auto &[from, to] : added)
            std::erase(to, node);
    }
};

void build(GraphBuilder &builder, int threads) {
    WorkerThreads workers;
    workers.start(threads, [&](int, const std::atomic<bool> &stop) { builder.add_all(stop); });
    workers.join();
    workers.start(threads,
                  [&](int, const std::atomic<bool> &stop) { builder.collect_lists(stop); });
    workers.join();
    builder.connect();
}

} // namespace

TEST(KeySet, HoldsWhatWasInserted) {
    TestArena memory;
    KeySet set(memory.arena());
    EXPECT_FALSE(set.contains(0));
    for (uint64_t key = 0; key < 5000; key++)
        EXPECT_TRUE(set.insert(key * 65536));
    for (uint64_t key = 0; key < 5000; key++) {
        EXPECT_FALSE(set.insert(key * 65536));
        EXPECT_FALSE(set.contains(key * 65536 + 1));
    }
    EXPECT_EQ(set.size(), 5000u);
    set.clear();
    EXPECT_FALSE(set.contains(65536));
}

TEST(KeySet, FilterMissesNothingAndTellsMostOthers) {
    TestArena memory;
    KeySet set(memory.arena());
    for (uint64_t key = 0; key < 100; key++)
        set.insert(key * 65536);
    int others = 0;
    for (uint64_t key = 0; key < 100; key++) {
        EXPECT_TRUE(set.may_contain(key * 65536));
        others += set.may_contain((key + 100) * 65536);
    }
    EXPECT_LT(others, 20);
    set.clear();
    EXPECT_FALSE(set.may_contain(65536));
}

TEST(ElementLayout, ElementOf784DimensionsWithCodesFitsOnePage) {
    ElementLayout l = ElementLayout::make(floats(784), 16, 1, 8152);
    EXPECT_EQ(l.slots, 32u);
    EXPECT_FALSE(l.spanned());
    EXPECT_LE(l.size, 8152u);
}

TEST(ElementLayout, PartsFollowEachOtherForEveryShape) {
    for (uint32_t m : {2u, 3u, 16u, 33u, 100u})
        for (uint32_t dim : {1u, 7u, 784u, 941u, 1024u, 1536u, 3000u, 16000u})
            for (uint32_t codes : {0, 1, 2}) {
                ElementLayout l = ElementLayout::make(floats(dim), m, codes, 8152);
                ASSERT_GE(l.slots, 2 * m);
                ASSERT_LE(l.slots, kMaxSlots);
                ASSERT_LE(l.vector_offset, l.head_bytes) << "head holds all but vector and codes";
                ASSERT_EQ(l.links_offset % 8, 0u);
                ASSERT_GE(l.distances_offset, l.links_offset + l.slots * sizeof(Link));
                ASSERT_GE(l.codes_offset, l.vector_offset + dim * sizeof(float));
                ASSERT_GE(l.size, l.codes_offset + l.blocks * l.code_bytes);
                ASSERT_GE(l.links_offset, l.pieces_offset + l.pieces * sizeof(Link));
                uint32_t outside = l.full_pieces * l.piece_bytes + l.rest_bytes;
                ASSERT_EQ(l.head_bytes + outside, l.size);
                ASSERT_LT(l.rest_bytes, 8152u - sizeof(PieceHeader));
            }
}

TEST(NeighborSelection, DropsWhatAnotherCoversAndKeepsWhatItMust) {
    // On a line from the element at 0: 1 covers 2 and 3; -4 is another direction.
    const float at[] = {1, 2, 3, -4};
    SelectionCandidate candidates[] = {{1, false, 0}, {4, false, 1}, {9, false, 2}, {16, false, 3}};
    auto covers = [&](uint32_t a, uint32_t b, float limit) {
        return (at[a] - at[b]) * (at[a] - at[b]) < limit;
    };
    uint32_t chosen[4];
    ASSERT_EQ(select_neighbors(candidates, 4, 4, false, chosen, covers), 2u);
    EXPECT_EQ(chosen[0], 0u);
    EXPECT_EQ(chosen[1], 3u);
    EXPECT_EQ(select_neighbors(candidates, 4, 3, true, chosen, covers), 3u);
    EXPECT_EQ(chosen[2], 1u) << "the nearest of the rest";
    candidates[2].kept = true;
    EXPECT_EQ(select_neighbors(candidates, 4, 1, false, chosen, covers), 1u);
    EXPECT_EQ(chosen[0], 2u);
}

TEST(BuildRows, MergesEqualVectorsAndKeepsTheirRowsInOrder) {
    BuildRows rows(floats(2));
    for (uint16_t i = 0; i < 3000; i++) {
        float vector[] = {static_cast<float>(i % 1500), 1};
        rows.add(vector, {0, 0, i});
    }
    ASSERT_EQ(rows.size(), 1500u);
    EXPECT_EQ(rows.row_count(), 3000u);
    std::vector<uint16_t> found;
    rows.for_each_tid(7, [&](Tid tid) { found.push_back(tid.offset); });
    EXPECT_EQ(found, (std::vector<uint16_t>{7, 1507}));
    EXPECT_EQ(rows.floats(7)[0], 7);
}

TEST(WorkerThreads, PassExceptionsOnAndStopTheOthers) {
    WorkerThreads workers;
    workers.start(3, [](int thread, const std::atomic<bool> &stop) {
        if (thread == 1)
            throw std::runtime_error("one failed");
        while (!stop)
            std::this_thread::yield();
    });
    EXPECT_THROW(workers.join(), std::runtime_error);
    EXPECT_TRUE(workers.finished());
}

TEST(KeepConnected, JoinsSeparateClustersAndKeepsBothDirections) {
    constexpr uint32_t kNodes = 300, kSlots = 4;
    NeighborLists lists(kNodes, kSlots);
    // Six rings that know nothing of each other.
    for (uint32_t node = 0; node < kNodes; node++) {
        uint32_t ring = node / 50 * 50;
        lists.of(node)[0] = ring + (node + 1) % 50;
        lists.of(node)[1] = ring + (node + 49) % 50;
        lists.distances_of(node)[0] = lists.distances_of(node)[1] = 1;
    }
    uint64_t made = keep_connected(
        lists, [](uint32_t) { return std::vector<uint32_t>{}; },
        [](uint32_t a, uint32_t b) { return static_cast<float>(a > b ? a - b : b - a); });
    EXPECT_EQ(made, 5u);
    std::vector<uint32_t> queue = {0};
    std::set<uint32_t> seen = {0};
    while (!queue.empty()) {
        uint32_t node = queue.back();
        queue.pop_back();
        for (uint32_t slot = 0; slot < kSlots; slot++) {
            if (!lists.is_kept(node, slot))
                continue;
            uint32_t other = lists.of(node)[slot];
            bool back = false;
            for (uint32_t i = 0; i < kSlots; i++)
                back |= lists.of(other)[i] == node && lists.is_kept(other, i);
            EXPECT_TRUE(back);
            if (seen.insert(other).second)
                queue.push_back(other);
        }
    }
    EXPECT_EQ(seen.size(), kNodes) << "kept links alone connect all";
}

class BuiltGraph : public testing::TestWithParam<int> {};

TEST_P(BuiltGraph, FindsTheNearestAndPassesThroughTheDead) {
    constexpr uint32_t kDim = 12, kNodes = 2000;
    std::mt19937 random(3);
    BuildRows rows(floats(kDim));
    for (uint32_t i = 0; i < kNodes; i++)
        rows.add(random_vector(random, kDim).data(), {0, 0, static_cast<uint16_t>(i)});
    GraphBuilder builder({floats(kDim), 16, 100, 32, true, false}, rows);
    build(builder, GetParam());
    ASSERT_EQ(builder.size(), kNodes);
    TestArena memory;
    LayerSearch search(memory.arena());
    int found = 0, live = 0;
    for (int i = 0; i < 50; i++) {
        std::vector<float> query = random_vector(random, kDim);
        MemoryGraph graph{builder, query.data()};
        uint32_t best = 0;
        for (uint32_t node = 1; node < kNodes; node++)
            if (floats(kDim).distance(query.data(), builder.vector(node)) <
                floats(kDim).distance(query.data(), builder.vector(best)))
                best = node;
        Candidate entry;
        graph.distance({builder.entry_point(), 0, 0}, &entry);
        for (int level = builder.level(builder.entry_point()); level > 0; level--)
            entry = descend(graph, search, entry, level);
        search_layer(graph, search, &entry, 1, 50, 0);
        ASSERT_EQ(search.results.size(), 50u);
        ASSERT_TRUE(std::is_sorted(search.results.begin(), search.results.end(), nearer));
        found += search.results[0].link.block == best;
        graph.dead.insert(best);
        graph.distance(entry.link, &entry);
        search_layer(graph, search, &entry, 1, 50, 0);
        for (const Candidate &candidate : search.results)
            live += candidate.link.block != best;
    }
    EXPECT_GE(found, 49);
    EXPECT_EQ(live, 50 * 50);
}

TEST(BuiltGraph, ByBytesFindsAsManyNeighbors) {
    constexpr uint32_t kDim = 96, kNodes = 2000, kSlots = 32;
    size_t right[2] = {};
    for (bool by_bytes : {false, true}) {
        std::mt19937 random(4);
        BuildRows rows(floats(kDim));
        for (uint32_t i = 0; i < kNodes; i++)
            rows.add(random_vector(random, kDim).data(), {0, 0, static_cast<uint16_t>(i)});
        GraphBuilder builder({floats(kDim), 16, 100, kSlots, true, by_bytes}, rows);
        EXPECT_EQ(builder.by_bytes(), by_bytes);
        build(builder, 1);
        for (uint32_t node = 0; node < kNodes; node += 20) {
            std::vector<std::pair<float, uint32_t>> exact;
            for (uint32_t other = 0; other < kNodes; other++)
                if (other != node)
                    exact.emplace_back(builder.distance(node, other), other);
            std::sort(exact.begin(), exact.end());
            for (uint32_t i = 0; i < kSlots; i++) {
                uint32_t neighbor = builder.lists().of(node)[i];
                if (neighbor == kNoNode)
                    continue;
                float distance = builder.lists().distances_of(node)[i];
                EXPECT_EQ(with_chosen(distance, false),
                          with_chosen(builder.distance(node, neighbor), false));
                for (uint32_t k = 0; k < 10; k++)
                    right[by_bytes] += exact[k].second == neighbor;
            }
        }
    }
    EXPECT_GT(right[0], 500u);
    EXPECT_GT(right[1], right[0] * 95 / 100);
}

// A search by codes or not, from the graph's entry point.
template <typename Graph> struct Stream {
    Graph &graph;
    bool coded;
    TestArena memory = {};
    LayerSearch search{memory.arena()};
    Expansion expansion = {};

    bool enter(Candidate *entry) { return graph.distance(graph.entry(), entry); }
    void start(size_t ef) {
        Candidate entry;
        enter(&entry);
        if (coded)
            start_coded(graph, search, &expansion, &entry, 1, ef);
        else
            search_layer<true>(graph, search, &entry, 1, ef, 0);
    }
    void resume(size_t ef) {
        resume_search(graph, search, coded ? &expansion : nullptr, ef,
                      [&](Candidate *entry) { return enter(entry); });
    }
};

// Nodes on a line, each linked to the one before and the one behind it.
struct LineGraph {
    std::set<uint32_t> nodes;

    Link entry() { return {*nodes.begin(), 0, 0}; }
    bool distance(Link link, Candidate *out) {
        *out = {static_cast<float>(link.block), true, link};
        return nodes.contains(link.block);
    }
    uint32_t neighbors(Link link, int, Link *out) {
        auto found = nodes.find(link.block);
        if (found == nodes.end())
            return 0;
        uint32_t count = 0;
        if (found != nodes.begin())
            out[count++] = {*std::prev(found), 0, 0};
        if (std::next(found) != nodes.end())
            out[count++] = {*std::next(found), 0, 0};
        return count;
    }
    bool expand(Link link, Expansion *out) {
        out->count = neighbors(link, 0, out->links);
        for (uint32_t i = 0; i < out->count; i++)
            out->estimates[i] = out->links[i].block;
        return distance(link, &out->element);
    }
    void prepare(Link) {}
    void prepare_more() {}
};

TEST(LaterList, GivesTheNearestPartAndForgetsTheVisited) {
    TestArena memory;
    KeySet visited(memory.arena());
    for (uint32_t node = 0; node < 100; node += 10)
        visited.insert(Link{node, 0, 0}.key());
    LaterList list(memory.arena());
    std::mt19937 random(1);
    std::vector<uint32_t> nodes(100);
    std::iota(nodes.begin(), nodes.end(), 0);
    std::shuffle(nodes.begin(), nodes.end(), random);
    for (uint32_t node : nodes)
        list.add({static_cast<float>(node), false, {node, 0, 0}});
    EXPECT_EQ(list.nearest(), 0);
    std::set<uint32_t> taken;
    auto take = [&](const Candidate &candidate) { taken.insert(candidate.link.block); };
    list.take_nearest(visited, std::numeric_limits<float>::infinity(), take);
    EXPECT_GE(taken.size(), 90u / 4);
    EXPECT_LT(taken.size(), 30u);
    EXPECT_EQ(*taken.rbegin(), list.horizon());
    EXPECT_GT(list.nearest(), list.horizon());
    EXPECT_EQ(list.size(), 90 - taken.size());
    list.take_nearest(visited, 75, take);
    EXPECT_EQ(taken.size(), 90u - 22) << "76 to 99 without 80 and 90 are left";
    EXPECT_EQ(list.nearest(), 76);
    while (!list.empty())
        list.take_nearest(visited, 0, take);
    EXPECT_EQ(taken.size(), 90u);
}

TEST(LaterList, CompactedHasTheNearestOfEach) {
    TestArena memory;
    KeySet visited(memory.arena());
    LaterList list(memory.arena());
    for (uint32_t i = 0; i < 60; i++)
        list.add({static_cast<float>((i * 37) % 60), false, {i % 5, 0, 0}});
    list.compact();
    ASSERT_EQ(list.size(), 5u);
    // The distances of block b are those below 60 that are 2 * b modulo 5.
    list.take_nearest(visited, 100, [](const Candidate &candidate) {
        EXPECT_EQ(candidate.distance, 2 * candidate.link.block % 5);
    });
    EXPECT_TRUE(list.empty());
}

// What a Frontier should be: all that is in it by distance and place.
struct PlainFrontier {
    std::set<std::pair<float, uint32_t>> all;

    void pop(float limit, Frontier *frontier) {
        ASSERT_FALSE(frontier->empty());
        EXPECT_EQ(frontier->distance(), all.begin()->first);
        auto taken = all.find({frontier->distance(), frontier->nearest().block});
        ASSERT_NE(taken, all.end());
        all.erase(taken);
        frontier->pop(limit);
    }
};

TEST(Frontier, GivesTheNearestAtAnyTime) {
    TestArena memory;
    Frontier frontier(memory.arena());
    std::mt19937 random(4);
    const float kNan = std::numeric_limits<float>::quiet_NaN();
    const float kInfinity = std::numeric_limits<float>::infinity();
    for (uint32_t lists : {1u, 8u, 9u, 40u, 300u, 1100u}) { // one to four levels above the estimates
        PlainFrontier plain;
        frontier.clear();
        EXPECT_TRUE(frontier.empty());
        uint32_t number = 0;
        for (uint32_t list = 0; list < lists; list++) {
            Link links[2 * kNeighborBlock];
            float estimates[2 * kNeighborBlock];
            for (uint32_t i = 0; i < 2 * kNeighborBlock; i++, number++) {
                links[i] = {number, 0, 0};
                estimates[i] = static_cast<float>(random() % 1000);
                if (random() % 4 == 0 || (i < kNeighborBlock && list % 7 == 0))
                    estimates[i] = random() % 8 == 0 ? kInfinity : kNan;
                if (estimates[i] == estimates[i])
                    plain.all.insert({estimates[i], number});
            }
            frontier.add(links, estimates, 2 * kNeighborBlock, kInfinity);
            for (size_t pops = random() % 40; pops > 0 && !plain.all.empty(); pops--)
                plain.pop(kInfinity, &frontier);
        }
        while (!plain.all.empty())
            plain.pop(kInfinity, &frontier);
        EXPECT_TRUE(frontier.empty());
    }
}

TEST(Frontier, ForgetsWhatIsBeyondTheLimit) {
    TestArena memory;
    Frontier frontier(memory.arena());
    Link links[kNeighborBlock] = {};
    float estimates[kNeighborBlock];
    for (uint32_t i = 0; i < kNeighborBlock; i++)
        estimates[i] = static_cast<float>(kNeighborBlock - i);
    frontier.add(links, estimates, kNeighborBlock, 0.5F);
    EXPECT_TRUE(frontier.empty());
    frontier.add(links, estimates, kNeighborBlock, 1);
    frontier.add({7, 0, 0}, 2.5F);
    EXPECT_EQ(frontier.distance(), 1);
    frontier.pop(2);
    EXPECT_EQ(frontier.distance(), 2);
    frontier.pop(2);
    EXPECT_EQ(frontier.nearest(), (Link{7, 0, 0}));
    frontier.pop(2);
    EXPECT_TRUE(frontier.empty());
    frontier.add({8, 0, 0}, std::numeric_limits<float>::infinity());
    EXPECT_EQ(frontier.nearest(), (Link{8, 0, 0}));
}

template <typename Test> class OnSmallGraph : public Test {
  protected:
    static constexpr uint32_t kDim = 12, kNodes = 2000;
    std::mt19937 random{3};
    BuildRows rows{floats(kDim)};
    std::unique_ptr<GraphBuilder> builder;

    void SetUp() override {
        for (uint32_t i = 0; i < kNodes; i++)
            rows.add(random_vector(random, kDim).data(), {0, 0, static_cast<uint16_t>(i)});
        builder.reset(new GraphBuilder({floats(kDim), 16, 100, 32, true, false}, rows));
        build(*builder, 1);
    }
};
class CodedSearch : public OnSmallGraph<testing::Test> {};
class StreamedSearch : public OnSmallGraph<testing::TestWithParam<bool>> {};

// Which hints were given, and how many expansions began without one before the expansion before.
struct HintedGraph : MemoryGraph {
    std::set<uint64_t> prepared = {}, prepared_before = {};
    size_t expanded = 0, unprepared = 0;

    void prepare(Link link) { prepared.insert(link.key()); }
    bool expand(Link link, Expansion *out) {
        unprepared += expanded > 0 && !prepared_before.contains(link.key());
        expanded++;
        prepared_before = prepared;
        return MemoryGraph::expand(link, out);
    }
};

TEST_F(CodedSearch, PreparesWhatItExpandsOneExpansionAheadOnceItIsNear) {
    TestArena memory;
    LayerSearch search(memory.arena());
    Expansion expansion;
    for (int i = 0; i < 20; i++) {
        std::vector<float> query = random_vector(random, kDim);
        HintedGraph graph{{*builder, query.data()}};
        Candidate entry;
        graph.distance(graph.entry(), &entry);
        search_coded(graph, search, &expansion, &entry, 1, 64);
        EXPECT_EQ(search.results.size(), 64u);
        EXPECT_GT(graph.expanded, 64u);
        EXPECT_LE(graph.unprepared, 8u); // the way there
    }
}

TEST_F(CodedSearch, FindsWhatASearchByExactDistancesFinds) {
    TestArena memory;
    LayerSearch coded(memory.arena()), exact(memory.arena());
    Expansion expansion;
    size_t found_coded = 0, found_exact = 0;
    for (int i = 0; i < 50; i++) {
        std::vector<float> query = random_vector(random, kDim);
        MemoryGraph graph{*builder, query.data()};
        graph.dead.insert(graph.entry().block);
        Candidate entry;
        graph.distance(graph.entry(), &entry);
        search_coded(graph, coded, &expansion, &entry, 1, 40);
        search_layer(graph, exact, &entry, 1, 40, 0);
        ASSERT_TRUE(std::is_sorted(coded.results.begin(), coded.results.end(), nearer));
        std::vector<float> distances;
        for (uint32_t node = 0; node < kNodes; node++) {
            Candidate candidate;
            if (graph.distance({node, 0, 0}, &candidate) && candidate.live)
                distances.push_back(candidate.distance);
        }
        std::nth_element(distances.begin(), distances.begin() + 9, distances.end());
        auto is_near = [&](const Candidate &c) { return c.distance <= distances[9]; };
        found_coded += std::count_if(coded.results.begin(), coded.results.end(), is_near);
        found_exact += std::count_if(exact.results.begin(), exact.results.end(), is_near);
    }
    EXPECT_GE(found_coded, found_exact);
}

TEST_P(StreamedSearch, GivesEveryLiveElementOnceAndEachBatchInOrder) {
    std::vector<float> query = random_vector(random, kDim);
    MemoryGraph graph{*builder, query.data()};
    for (uint32_t node = 0; node < kNodes; node += 7)
        graph.dead.insert(node);
    Stream<MemoryGraph> stream{graph, GetParam()};
    std::set<uint32_t> given;
    stream.start(40);
    for (size_t batch = 1; !stream.search.results.empty(); batch++) {
        ASSERT_TRUE(
            std::is_sorted(stream.search.results.begin(), stream.search.results.end(), nearer));
        for (const Candidate &candidate : stream.search.results) {
            ASSERT_TRUE(given.insert(candidate.link.block).second) << "twice";
            ASSERT_FALSE(graph.dead.contains(candidate.link.block));
        }
        size_t ef = batch % 3 == 0 ? 1 : 40;
        stream.resume(ef);
        ASSERT_LE(stream.search.results.size(), ef);
    }
    EXPECT_EQ(given.size(), kNodes - graph.dead.size());
}

TEST_P(StreamedSearch, BatchesTogetherAreAsGoodAsOneSearch) {
    std::vector<float> query = random_vector(random, kDim);
    MemoryGraph graph{*builder, query.data()};
    Stream<MemoryGraph> stream{graph, GetParam()};
    std::vector<std::pair<float, uint32_t>> exact;
    for (uint32_t node = 0; node < kNodes; node++)
        exact.emplace_back(floats(kDim).distance(query.data(), builder->vector(node)), node);
    std::sort(exact.begin(), exact.end());
    std::set<uint32_t> nearest;
    for (int i = 0; i < 200; i++)
        nearest.insert(exact[i].second);
    int found = 0;
    stream.start(40);
    for (int batch = 0; batch < 5; batch++) {
        for (const Candidate &candidate : stream.search.results)
            found += nearest.contains(candidate.link.block);
        stream.resume(40);
    }
    EXPECT_GE(found, 190);
}

TEST_P(StreamedSearch, FindsWhatVacuumLinkedElsewhereMeanwhile) {
    std::vector<float> query = random_vector(random, kDim);
    MemoryGraph graph{*builder, query.data()};
    Stream<MemoryGraph> stream{graph, GetParam()};
    std::set<uint32_t> given;
    stream.start(10);
    while (!stream.search.results.empty()) {
        for (const Candidate &candidate : stream.search.results)
            ASSERT_TRUE(given.insert(candidate.link.block).second) << "twice";
        for (int i = 0; i < 8; i++) { // more than half of all
            uint32_t node = random() % kNodes;
            if (node != builder->entry_point() && !graph.gone.contains(node) &&
                graph.gone.size() < kNodes / 2)
                graph.remove(node);
        }
        stream.resume(10);
    }
    for (uint32_t node = 0; node < kNodes; node++)
        EXPECT_TRUE(graph.gone.contains(node) || given.contains(node)) << node;
}

// Of every element but the first, either it is gone when its turn comes, or the one before is.
TEST_P(StreamedSearch, LooksAgainWhereWhatLedOnIsGone) {
    for (uint32_t first_gone : {1, 2}) {
        LineGraph graph;
        for (uint32_t node = 0; node < 50; node++)
            graph.nodes.insert(node);
        Stream<LineGraph> stream{graph, GetParam()};
        std::set<uint32_t> given;
        stream.start(1);
        while (!stream.search.results.empty()) {
            uint32_t node = stream.search.results[0].link.block;
            ASSERT_TRUE(given.insert(node).second) << "twice";
            if (node % 2 != first_gone % 2 && node >= first_gone - 1)
                graph.nodes.erase(node + 1);
            if (node == 20) // all that was seen
                graph.nodes.erase(graph.nodes.begin(), graph.nodes.find(22));
            stream.resume(1);
        }
        for (uint32_t node : graph.nodes)
            EXPECT_TRUE(given.contains(node)) << node;
    }
}
INSTANTIATE_TEST_SUITE_P(Coded, StreamedSearch, testing::Bool());

INSTANTIATE_TEST_SUITE_P(Threads, BuiltGraph, testing::Values(1, 3));
