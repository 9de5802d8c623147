// Distances between two vectors or halfvecs, by the kernels of extension/core/distance.h. None of
// them allocates unless a value is toasted.
#include <numbers>

#include "extension/core/distance.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

namespace vec {
namespace {

// `distance` of the two arguments; it calls nothing of PostgreSQL.
template <typename T, typename Distance>
Datum distance_of(FunctionCallInfo fcinfo, Distance distance) {
    DenseView<T> a = datum_view_dense<T>(PG_GETARG_DATUM(0));
    DenseView<T> b = datum_view_dense<T>(PG_GETARG_DATUM(1));
    check_same_dims(a.dim, b.dim, kTypeName<T>);
    double result = distance(ann::kernels().between<T, T>(), a.x, b.x, static_cast<size_t>(a.dim));
    a.release();
    b.release();
    return Float8GetDatum(result);
}

template <typename T> Datum l2_distance_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return std::sqrt(static_cast<double>(kernels.l2_squared(arguments...)));
    });
}
DENSE_FUNCTIONS(l2_distance_of, l2_distance, halfvec_l2_distance)

template <typename T> Datum l2_squared_distance_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return static_cast<double>(kernels.l2_squared(arguments...));
    });
}
DENSE_FUNCTIONS(l2_squared_distance_of, vector_l2_squared_distance, halfvec_l2_squared_distance)

template <typename T> Datum inner_product_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return static_cast<double>(kernels.inner_product(arguments...));
    });
}
DENSE_FUNCTIONS(inner_product_of, inner_product, halfvec_inner_product)

template <typename T> Datum negative_inner_product_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return -static_cast<double>(kernels.inner_product(arguments...));
    });
}
DENSE_FUNCTIONS(negative_inner_product_of, vector_negative_inner_product,
                halfvec_negative_inner_product)

template <typename T> Datum cosine_distance_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return kernels.cosine_terms(arguments...).distance();
    });
}
DENSE_FUNCTIONS(cosine_distance_of, cosine_distance, halfvec_cosine_distance)

template <typename T> Datum l1_distance_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        return static_cast<double>(kernels.l1(arguments...));
    });
}
DENSE_FUNCTIONS(l1_distance_of, l1_distance, halfvec_l1_distance)

// The angle between unit vectors as a share of pi: a metric, for the spherical k-means of
// ivfflat.
template <typename T> Datum spherical_distance_of(FunctionCallInfo fcinfo) {
    return distance_of<T>(fcinfo, [](const auto &kernels, auto... arguments) {
        double dot = kernels.inner_product(arguments...);
        return std::acos(std::clamp(dot, -1.0, 1.0)) / std::numbers::pi;
    });
}
DENSE_FUNCTIONS(spherical_distance_of, vector_spherical_distance, halfvec_spherical_distance)

} // namespace
} // namespace vec
