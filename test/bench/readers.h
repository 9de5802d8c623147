// Readers of the files that vector data sets come in. What a file says about itself is checked
// before it is believed; every function throws std::runtime_error, which names the file.
#pragma once

#include "test/bench/vectors.h"

#include <cstddef>
#include <limits>
#include <string>

namespace bench {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

// IDX (idx.h): each item a vector of its bytes' values. At most `limit` of them.
Vectors read_idx(const std::string &path, size_t limit = kAll);

// .fvecs and .bvecs (http://corpus-texmex.irisa.fr): records of the dimension as a little-endian
// 32-bit number and then that many floats, or bytes. All records have the same dimension.
Vectors read_vecs(const std::string &path, size_t limit = kAll);

// A two-dimensional data set of numbers in an HDF5 file, in ann-benchmarks' layout "train" or
// "test".
Vectors read_hdf5(const std::string &path, const std::string &name, size_t limit = kAll);

// The file's attribute "distance", as ann-benchmarks writes it ("euclidean", "angular"); "" if
// absent.
std::string hdf5_distance(const std::string &path);

} // namespace bench
