#include "coordinator/executor/buffer_usage.h"

#include "coordinator/catalog/nodes.h"

extern "C" {
#include "utils/builtins.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// In the order of vector.buffer_usage.
constexpr int64 BufferUsage::*kCounters[] = {
    &BufferUsage::shared_blks_hit,     &BufferUsage::shared_blks_read,
    &BufferUsage::shared_blks_dirtied, &BufferUsage::shared_blks_written,
    &BufferUsage::local_blks_hit,      &BufferUsage::local_blks_read,
    &BufferUsage::local_blks_dirtied,  &BufferUsage::local_blks_written,
    &BufferUsage::temp_blks_read,      &BufferUsage::temp_blks_written,
};

// Of one execution on one node.
struct NodeCounter {
    int32 node_id;
    int users; // plan nodes that count
    NodeRequest *first;
    bool known; // `last`
    BufferUsage last;
};

struct Counters {
    EState *estate;
    List *nodes;   // NodeCounter *
    char *reading; // the statement
    Counters *next;
    MemoryContextCallback end;
};

Counters *all_counters;

Counters *counters_of(EState *estate) {
    for (Counters *counters = all_counters; counters != nullptr; counters = counters->next)
        if (counters->estate == estate)
            return counters;
    auto *counters = palloc0_object(Counters);
    counters->estate = estate;
    counters->end.arg = counters;
    counters->end.func = [](void *argument) {
        Counters **place = &all_counters;
        while (*place != argument)
            place = &(*place)->next;
        *place = (*place)->next;
    };
    MemoryContextRegisterResetCallback(estate->es_query_cxt, &counters->end);
    counters->next = all_counters;
    all_counters = counters;
    return counters;
}

NodeCounter *counter_of(EState *estate, int32 node_id) {
    Counters *counters = counters_of(estate);
    ListCell *cell;
    foreach (cell, counters->nodes) {
        auto *counter = static_cast<NodeCounter *>(lfirst(cell));
        if (counter->node_id == node_id)
            return counter;
    }
    auto *counter = palloc0_object(NodeCounter);
    counter->node_id = node_id;
    counters->nodes = lappend(counters->nodes, counter);
    return counter;
}

// The literal has the worker load the library where the setting is.
char *reading_statement() {
    BufferUsage before = pgBufferUsage; // to look for the schema is not the plan's work
    char *sql = psprintf("SELECT pg_catalog.current_setting('vector.buffer_usage', true) "
                         "WHERE '[0]'::%s.vector IS NOT NULL",
                         quote_identifier(own_vector().schema));
    pgBufferUsage = before;
    return sql;
}

// Without an error where the node is lost: the plan goes on with other placements.
NodeRequest *send_reading(EState *estate, int32 node_id) {
    Counters *counters = counters_of(estate);
    if (counters->reading == nullptr)
        counters->reading = reading_statement();
    RemoteStatement statement = {};
    statement.sql = counters->reading;
    statement.effect = Effect::kReadOnce;
    statement.keep_prepared = true;
    statement.guarded = true;
    statement.may_be_stale = true;
    return send_to_node(get_node(node_id), &statement);
}

bool take_reading(NodeRequest *request, BufferUsage *usage) {
    const PGresult *result = wait_for_node(request);
    if (result == nullptr || PQntuples(result) != 1)
        return false;
    const char *text = PQgetvalue(result, 0, 0);
    for (int64 BufferUsage::*counter : kCounters) {
        char *end;
        usage->*counter = strtoll(text, &end, 10);
        if (end == text)
            return false;
        text = end;
    }
    return true;
}

// A session that was replaced meanwhile begins at nothing.
BufferUsage difference(const BufferUsage &now, const BufferUsage &before) {
    BufferUsage used = {};
    bool is_new = false;
    for (int64 BufferUsage::*counter : kCounters)
        is_new |= now.*counter < before.*counter;
    for (int64 BufferUsage::*counter : kCounters)
        used.*counter = now.*counter - (is_new ? 0 : before.*counter);
    return used;
}

bool read_again(EState *estate, NodeCounter *counter, BufferUsage *used) {
    NodeRequest *request = send_reading(estate, counter->node_id);
    BufferUsage now = {};
    if (!counter->known)
        counter->known = take_reading(counter->first, &counter->last);
    if (!take_reading(request, &now) || !counter->known)
        return false;
    *used = difference(now, counter->last);
    counter->last = now;
    return true;
}

} // namespace

void count_buffers(PlanState *plan, CountedNodes *nodes, int32 node_id) {
    if (plan->instrument == nullptr || !plan->instrument->need_bufusage ||
        bms_is_member(node_id, *nodes))
        return;
    MemoryContext old = MemoryContextSwitchTo(plan->state->es_query_cxt);
    NodeCounter *counter = counter_of(plan->state, node_id);
    if (counter->users++ == 0) {
        counter->first = send_reading(plan->state, node_id);
        counter->known = false;
    }
    *nodes = bms_add_member(*nodes, node_id);
    MemoryContextSwitchTo(old);
}

void collect_buffers(PlanState *plan, CountedNodes *nodes,
                     void (*count)(PlanState *, int32 node_id, const BufferUsage &)) {
    MemoryContext old = MemoryContextSwitchTo(plan->state->es_query_cxt);
    int node_id = -1;
    while ((node_id = bms_next_member(*nodes, node_id)) >= 0) {
        NodeCounter *counter = counter_of(plan->state, node_id);
        counter->users--;
        BufferUsage used = {};
        if (!read_again(plan->state, counter, &used))
            continue;
        add_buffer_usage(&pgBufferUsage, used);
        count(plan, node_id, used);
    }
    bms_free(*nodes);
    *nodes = nullptr;
    MemoryContextSwitchTo(old);
}

void add_buffer_usage(BufferUsage *to, const BufferUsage &used) {
    for (int64 BufferUsage::*counter : kCounters)
        to->*counter += used.*counter;
}

} // namespace panvel
