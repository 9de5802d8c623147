#include "coordinator/executor/explain.h"

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/builtins.h"
}

namespace panvel {
namespace {

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
    if (es->verbose) {
        es->indent++;
        ExplainPropertyText("Remote SQL", report->sql, es);
        es->indent--;
    }
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
