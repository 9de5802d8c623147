// Evaluating at execution what the planner left open: the parameters of remote statements and
// the shards that a key allows.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/codec.h"
#include "coordinator/planner/ship.h"

extern "C" {
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
}

namespace panvel {

// The parameters of a remote statement: expressions and the encoders of their types.
struct ParamEvaluator {
    int count;
    ExprState **exprs;
    ParamEncoder *encoders;
};
// `exprs`: List of Expr, as collected in ShippedParams. Called at executor start.
ParamEvaluator *make_param_evaluator(List *exprs, PlanState *parent);

// Evaluates and encodes the parameters into CurrentMemoryContext.
RemoteParams *evaluate_params(ParamEvaluator *evaluator, ExprContext *context);

struct PruneEvaluator {
    ExprState *value;
    bool is_array;
    Oid value_type; // element type of an array
    FmgrInfo hash;
};
// Null for a null key (all shards).
PruneEvaluator *make_prune_evaluator(const PruneKey *key, PlanState *parent);

// The shards that can hold rows with this key, as indexes into table->shards. `evaluator` may be
// null: all shards. A NULL key: none.
Bitmapset *evaluate_prune(PruneEvaluator *evaluator, const DistributedTable *table,
                          ExprContext *context);

} // namespace panvel
