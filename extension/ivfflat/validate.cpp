// amvalidate: the support functions of an operator class are, as pgvector's, the distance, a norm
// (without one nothing is normalized), and k-means' distance and norm, which are not called here.
#include "extension/hnsw/validate.h"

#include "extension/ivfflat/ivfflat.h"

namespace ivf {

bool ivfflat_validate(Oid opclass) {
    return vec::validate_opclass(opclass, "ivfflat", "dndni");
}

} // namespace ivf
