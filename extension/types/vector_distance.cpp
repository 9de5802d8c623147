// Distances between two vectors, by the kernels of extension/core/distance.h. None of them
// allocates unless a value is toasted.
#include <numbers>

#include "extension/core/distance.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

namespace vec {
namespace {

// `distance` of the two arguments; it calls nothing of PostgreSQL.
template <typename Distance> Datum distance_of(FunctionCallInfo fcinfo, Distance distance) {
    VectorView a = datum_view_vector(PG_GETARG_DATUM(0));
    VectorView b = datum_view_vector(PG_GETARG_DATUM(1));
    check_same_dims(a.dim, b.dim);
    double result = distance(ann::kernels(), a.x, b.x, static_cast<size_t>(a.dim));
    a.release();
    b.release();
    return Float8GetDatum(result);
}

SQL_FUNCTION(l2_distance) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return std::sqrt(static_cast<double>(kernels.l2_squared(arguments...)));
    });
}

SQL_FUNCTION(vector_l2_squared_distance) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return static_cast<double>(kernels.l2_squared(arguments...));
    });
}

SQL_FUNCTION(inner_product) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return static_cast<double>(kernels.inner_product(arguments...));
    });
}

SQL_FUNCTION(vector_negative_inner_product) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return -static_cast<double>(kernels.inner_product(arguments...));
    });
}

SQL_FUNCTION(cosine_distance) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return kernels.cosine_terms(arguments...).distance();
    });
}

SQL_FUNCTION(l1_distance) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        return static_cast<double>(kernels.l1(arguments...));
    });
}

// The angle between unit vectors as a share of pi: a metric, for the spherical k-means of
// ivfflat.
SQL_FUNCTION(vector_spherical_distance) {
    return distance_of(fcinfo, [](const ann::Kernels &kernels, auto... arguments) {
        double dot = kernels.inner_product(arguments...);
        return std::acos(std::clamp(dot, -1.0, 1.0)) / std::numbers::pi;
    });
}

} // namespace
} // namespace vec
