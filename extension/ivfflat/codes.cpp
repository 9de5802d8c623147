#include "extension/ivfflat/codes.h"

namespace ivf {

MemberCode encode_row(const IvfIndex *index, const float *floats, const float *centroid,
                      float scale) {
    const ann::ListLayout &l = index->list;
    MemberCode result = {};
    if (!l.has_codes())
        return result;
    auto *center = static_cast<float *>(palloc(l.padded * sizeof(float)));
    auto *rotated = static_cast<float *>(palloc(l.padded * sizeof(float)));
    result.code = static_cast<uint8 *>(palloc(ann::code_bytes(l.coded, l.bits)));
    rotate_center(index, centroid, scale, center);
    ann::rotate(index->meta.rotation_seed, floats, l.dim, rotated);
    result.factors = ann::encode_member(index->form.code_metric(), center, rotated, l.padded,
                                        l.coded, l.bits, result.code);
    pfree(center);
    pfree(rotated);
    return result;
}

void rotate_center(const IvfIndex *index, const float *centroid, float scale, float *out) {
    std::vector<float> scaled(centroid, centroid + index->meta.dim);
    for (float &x : scaled)
        x *= scale;
    ann::rotate(index->meta.rotation_seed, scaled.data(), index->meta.dim, out);
}

float center_norm(const IvfIndex *index, const float *centroid, float scale) {
    return static_cast<float>(ann::squared_norm(centroid, index->meta.dim) * scale * scale);
}

} // namespace ivf
