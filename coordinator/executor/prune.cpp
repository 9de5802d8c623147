#include "coordinator/executor/prune.h"

#include "coordinator/core/hash_range.h"

extern "C" {
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

int shard_of(PruneEvaluator *evaluator, const DistributedTable *table, Datum value) {
    Datum hash =
        FunctionCall2Coll(&evaluator->hash, table->distribution_collation, value, Int64GetDatum(0));
    return static_cast<int>(
        shard_index_of_hash(DatumGetInt64(hash), static_cast<uint32_t>(table->shard_count)));
}

} // namespace

ParamEvaluator *make_param_evaluator(List *exprs, PlanState *parent) {
    auto *evaluator = static_cast<ParamEvaluator *>(palloc0(sizeof(ParamEvaluator)));
    evaluator->count = list_length(exprs);
    if (evaluator->count == 0)
        return evaluator;
    evaluator->exprs = static_cast<ExprState **>(palloc0(sizeof(ExprState *) * evaluator->count));
    evaluator->encoders =
        static_cast<ParamEncoder *>(palloc0(sizeof(ParamEncoder) * evaluator->count));
    for (int i = 0; i < evaluator->count; i++) {
        auto *expr = static_cast<Expr *>(list_nth(exprs, i));
        evaluator->exprs[i] = ExecInitExpr(expr, parent);
        init_param_encoder(&evaluator->encoders[i], exprType(reinterpret_cast<Node *>(expr)));
    }
    return evaluator;
}

RemoteParams *evaluate_params(ParamEvaluator *evaluator, ExprContext *context) {
    if (evaluator->count == 0)
        return nullptr;
    auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * evaluator->count));
    auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * evaluator->count));
    for (int i = 0; i < evaluator->count; i++)
        values[i] = ExecEvalExpr(evaluator->exprs[i], context, &nulls[i]);
    return encode_params(evaluator->encoders, values, nulls, evaluator->count);
}

PruneEvaluator *make_prune_evaluator(const PruneKey *key, PlanState *parent) {
    if (key == nullptr)
        return nullptr;
    auto *evaluator = static_cast<PruneEvaluator *>(palloc0(sizeof(PruneEvaluator)));
    evaluator->value = ExecInitExpr(key->value, parent);
    evaluator->is_array = key->is_array;
    Oid type = exprType(reinterpret_cast<Node *>(key->value));
    evaluator->value_type = key->is_array ? get_base_element_type(type) : type;
    fmgr_info(key->hash_function, &evaluator->hash);
    return evaluator;
}

Bitmapset *evaluate_prune(PruneEvaluator *evaluator, const DistributedTable *table,
                          ExprContext *context) {
    if (evaluator == nullptr)
        return bms_add_range(nullptr, 0, table->shard_count - 1);
    bool isnull;
    Datum value = ExecEvalExpr(evaluator->value, context, &isnull);
    if (isnull)
        return nullptr;
    if (!evaluator->is_array)
        return bms_make_singleton(shard_of(evaluator, table, value));

    int16 length;
    bool by_value;
    char alignment;
    get_typlenbyvalalign(evaluator->value_type, &length, &by_value, &alignment);
    Datum *elements;
    bool *nulls;
    int count;
    deconstruct_array(DatumGetArrayTypeP(value), evaluator->value_type, length, by_value, alignment,
                      &elements, &nulls, &count);
    Bitmapset *shards = nullptr;
    for (int i = 0; i < count; i++)
        if (!nulls[i])
            shards = bms_add_member(shards, shard_of(evaluator, table, elements[i]));
    return shards;
}

} // namespace panvel
