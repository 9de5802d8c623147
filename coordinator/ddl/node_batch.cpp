#include "coordinator/ddl/node_batch.h"

namespace panvel {

void batch_send(NodeBatch *batch, int32 node_id, const char *sql, Effect effect) {
    RemoteStatement statement = {};
    statement.sql = sql;
    statement.effect = effect;
    batch->requests = lappend(batch->requests, remote_send(node_id, &statement));
}

void batch_finish(NodeBatch *batch) {
    ListCell *cell;
    foreach (cell, batch->requests) {
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        remote_wait(request);
        remote_release(request);
    }
    list_free(batch->requests);
    batch->requests = nullptr;
}

} // namespace panvel
