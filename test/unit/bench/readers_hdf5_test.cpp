#include "test/bench/readers.h"

#include "test/unit/bench/files.h"

#include <gmock/gmock-matchers.h>

#if PANVEL_HDF5
#include <hdf5.h>
#endif

namespace {

using bench::read_hdf5;
using testing::ElementsAre;
using testing::HasSubstr;

class Hdf5 : public Files {};

#if PANVEL_HDF5

constexpr size_t kRows = 3000; // more than a batch of the reader

// A file with data set "train" of these sizes, its values 0, 1, 2, ..., and attribute "distance".
std::string make(const std::string &path, std::vector<hsize_t> sizes, bool variable_text = false) {
    hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr);
    hid_t set =
        H5Dcreate2(file, "train", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    size_t count = 1;
    for (hsize_t size : sizes)
        count *= size;
    std::vector<double> values(count);
    for (size_t i = 0; i < count; i++)
        values[i] = static_cast<double>(i);
    H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable_text ? H5T_VARIABLE : 7);
    hid_t scalar = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(file, "distance", type, scalar, H5P_DEFAULT, H5P_DEFAULT);
    const char *text = "angular";
    H5Awrite(attribute, type, variable_text ? static_cast<const void *>(&text) : text);
    H5Aclose(attribute);
    H5Sclose(scalar);
    H5Tclose(type);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
    return path;
}

TEST_F(Hdf5, GivesVectorsAndDistance) {
    std::string file = make(path("a.hdf5"), {kRows, 4});
    bench::Vectors vectors = read_hdf5(file, "train");
    ASSERT_EQ(vectors.size(), kRows);
    EXPECT_THAT(vectors[1], ElementsAre(4, 5, 6, 7));
    EXPECT_THAT(vectors[kRows - 1], ElementsAre(11996, 11997, 11998, 11999));
    EXPECT_EQ(bench::hdf5_distance(file), "angular");
    EXPECT_EQ(bench::hdf5_distance(make(path("b.hdf5"), {1, 4}, true)), "angular");
}

TEST_F(Hdf5, ReadsNoMoreThanAskedFor) {
    EXPECT_EQ(read_hdf5(make(path("a.hdf5"), {kRows, 4}), "train", 1500).size(), 1500U);
}

TEST_F(Hdf5, WhatIsNotATableOfVectorsIsAnError) {
    auto error = [&](const std::vector<hsize_t> &sizes, const std::string &name = "train") {
        return error_of([&] { read_hdf5(make(path("a.hdf5"), sizes), name); });
    };
    EXPECT_THAT(error({5, 4}, "test"), HasSubstr("\"test\" is not there"));
    EXPECT_THAT(error({20}), HasSubstr("not a table of vectors"));
    EXPECT_THAT(error({2, 2, 2}), HasSubstr("not a table of vectors"));
    EXPECT_THAT(error({2, 20000}), HasSubstr("impossible shape"));
    EXPECT_THAT(error_of([&] { read_hdf5(write("a.hdf5", "text"), "train"); }),
                HasSubstr("not an HDF5 file"));
}

TEST_F(Hdf5, ACutOffFileIsAnError) {
    std::string file = make(path("a.hdf5"), {kRows, 4});
    for (uintmax_t size : {uintmax_t{100}, uintmax_t{2000}, uintmax_t{50000}}) {
        std::filesystem::copy_file(file, path("cut.hdf5"),
                                   std::filesystem::copy_options::overwrite_existing);
        std::filesystem::resize_file(path("cut.hdf5"), size);
        EXPECT_THAT(error_of([&] { read_hdf5(path("cut.hdf5"), "train"); }), HasSubstr("damaged"));
    }
}

#else

TEST_F(Hdf5, WithoutTheLibrarySaysSo) {
    EXPECT_THAT(error_of([&] { read_hdf5(path("a.hdf5"), "train"); }), HasSubstr("libhdf5-dev"));
}

#endif

} // namespace
