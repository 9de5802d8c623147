#include "coordinator/executor/explain.h"

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
}

namespace panvel {
namespace {

struct CounterName {
    int64 BufferUsage::*counter;
    const char *kind;
    const char *use;
};
constexpr CounterName kCounterNames[] = {
    {&BufferUsage::shared_blks_hit, "Shared", "Hit"},
    {&BufferUsage::shared_blks_read, "Shared", "Read"},
    {&BufferUsage::shared_blks_dirtied, "Shared", "Dirtied"},
    {&BufferUsage::shared_blks_written, "Shared", "Written"},
    {&BufferUsage::local_blks_hit, "Local", "Hit"},
    {&BufferUsage::local_blks_read, "Local", "Read"},
    {&BufferUsage::local_blks_dirtied, "Local", "Dirtied"},
    {&BufferUsage::local_blks_written, "Local", "Written"},
    {&BufferUsage::temp_blks_read, "Temp", "Read"},
    {&BufferUsage::temp_blks_written, "Temp", "Written"},
};

// As PostgreSQL shows those of a plan node: "Buffers: shared hit=3 read=1, temp read=5".
void explain_buffers_as_text(ExplainState *es, const BufferUsage *used) {
    StringInfoData text;
    initStringInfo(&text);
    const char *kind = "";
    for (const CounterName &name : kCounterNames) {
        int64 count = used->*name.counter;
        if (count == 0)
            continue;
        if (strcmp(kind, name.kind) != 0)
            appendStringInfo(&text, "%s%s", kind[0] != '\0' ? ", " : "",
                             asc_tolower(name.kind, strlen(name.kind)));
        kind = name.kind;
        appendStringInfo(&text, " %s=" INT64_FORMAT, asc_tolower(name.use, strlen(name.use)),
                         count);
    }
    if (text.len > 0)
        ExplainPropertyText("Buffers", text.data, es);
}

void explain_node_as_text(ExplainState *es, const NodeReport *report) {
    appendStringInfoSpaces(es->str, es->indent * 2);
    appendStringInfo(es->str, "Node %s: shards=%d", get_node(report->node_id)->name,
                     report->shard_count);
    if (es->analyze && report->executions == 0)
        appendStringInfoString(es->str, " (never executed)");
    else if (es->analyze) {
        appendStringInfo(es->str, " rows=" INT64_FORMAT, report->rows);
        if (es->timing)
            appendStringInfo(es->str, " time=%.3f ms", report->microseconds / 1000.0);
        if (report->executions > 1)
            appendStringInfo(es->str, " loops=" INT64_FORMAT, report->executions);
    }
    appendStringInfoChar(es->str, '\n');
    es->indent++;
    if (es->verbose)
        ExplainPropertyText("Remote SQL", report->sql, es);
    if (es->buffers)
        explain_buffers_as_text(es, &report->buffers);
    es->indent--;
}

void explain_node_structured(ExplainState *es, const NodeReport *report) {
    ExplainOpenGroup("Node", nullptr, true, es);
    ExplainPropertyText("Node Name", get_node(report->node_id)->name, es);
    ExplainPropertyInteger("Shards", nullptr, report->shard_count, es);
    if (es->analyze) {
        ExplainPropertyInteger("Rows", nullptr, report->rows, es);
        if (es->timing)
            ExplainPropertyFloat("Time", "ms", report->microseconds / 1000.0, 3, es);
        ExplainPropertyInteger("Loops", nullptr, report->executions, es);
    }
    if (es->verbose)
        ExplainPropertyText("Remote SQL", report->sql, es);
    for (const CounterName &name : kCounterNames)
        if (es->buffers && es->analyze)
            ExplainPropertyInteger(psprintf("%s %s Blocks", name.kind, name.use), nullptr,
                                   report->buffers.*name.counter, es);
    ExplainCloseGroup("Node", nullptr, true, es);
}

} // namespace

void explain_nodes(ExplainState *es, const NodeReport *reports, int count, int table_shards) {
    int shards = 0;
    for (int i = 0; i < count; i++)
        shards += reports[i].shard_count;
    if (es->format == EXPLAIN_FORMAT_TEXT) {
        ExplainPropertyText("Shards", psprintf("%d of %d", shards, table_shards), es);
        for (int i = 0; i < count; i++)
            explain_node_as_text(es, &reports[i]);
        return;
    }
    ExplainPropertyInteger("Shards Scanned", nullptr, shards, es);
    ExplainPropertyInteger("Shards Total", nullptr, table_shards, es);
    ExplainOpenGroup("Nodes", "Nodes", false, es);
    for (int i = 0; i < count; i++)
        explain_node_structured(es, &reports[i]);
    ExplainCloseGroup("Nodes", "Nodes", false, es);
}

} // namespace panvel
