// HDF5 by the library's C interface; without the library (PANVEL_HDF5 = 0) a clear error.
#include "test/bench/readers.h"

#include <stdexcept>

#if PANVEL_HDF5
#include <hdf5.h>

#include <algorithm>
#include <array>
#endif

namespace bench {

#if PANVEL_HDF5

namespace {

constexpr hsize_t kMaxDim = 16000;

// An open file, data set, type, ...: closed by the function that goes with it.
class Handle {
  public:
    Handle(hid_t id, herr_t (*close)(hid_t), const std::string &failure) : id_(id), close_(close) {
        if (id < 0)
            throw std::runtime_error(failure);
    }
    ~Handle() { close_(id_); }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    hid_t id() const { return id_; }

  private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

Handle open(const std::string &path) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); // errors are ours to tell
    return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose,
            path + ": not an HDF5 file, or damaged"};
}

} // namespace

Vectors read_hdf5(const std::string &path, const std::string &name, size_t limit) {
    const std::string what = path + ": data set \"" + name + "\" ";
    Handle file = open(path);
    Handle set(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose, what + "is not there");
    Handle space(H5Dget_space(set.id()), H5Sclose, what + "has no shape");
    if (H5Sget_simple_extent_ndims(space.id()) != 2)
        throw std::runtime_error(what + "is not a table of vectors");
    std::array<hsize_t, 2> shape{};
    H5Sget_simple_extent_dims(space.id(), shape.data(), nullptr);
    if (shape[0] == 0 || shape[1] == 0 || shape[1] > kMaxDim)
        throw std::runtime_error(what + "has an impossible shape");
    Handle type(H5Dget_type(set.id()), H5Tclose, what + "has no type");
    H5T_class_t kind = H5Tget_class(type.id());
    if (kind != H5T_FLOAT && kind != H5T_INTEGER)
        throw std::runtime_error(what + "does not hold numbers");

    // In batches: a shape larger than what is stored costs no memory before the error.
    Vectors vectors(shape[1]);
    const hsize_t count = std::min<hsize_t>(shape[0], limit);
    for (hsize_t first = 0; first < count;) {
        const hsize_t batch = std::min<hsize_t>(count - first, 1024);
        std::array<hsize_t, 2> start{first, 0};
        std::array<hsize_t, 2> size{batch, shape[1]};
        Handle rows(H5Screate_simple(2, size.data(), nullptr), H5Sclose, what + "cannot be read");
        std::vector<float> values(batch * shape[1]);
        if (H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start.data(), nullptr, size.data(),
                                nullptr) < 0 ||
            H5Dread(set.id(), H5T_NATIVE_FLOAT, rows.id(), space.id(), H5P_DEFAULT, values.data()) <
                0)
            throw std::runtime_error(what + "cannot be read: truncated or damaged");
        for (hsize_t i = 0; i < batch; i++)
            vectors.add({values.data() + i * shape[1], shape[1]});
        first += batch;
    }
    return vectors;
}

std::string hdf5_distance(const std::string &path) {
    Handle file = open(path);
    if (H5Aexists(file.id(), "distance") <= 0)
        return "";
    const std::string failure = path + ": attribute \"distance\" is not a text";
    Handle attribute(H5Aopen(file.id(), "distance", H5P_DEFAULT), H5Aclose, failure);
    Handle stored(H5Aget_type(attribute.id()), H5Tclose, failure);
    if (H5Tget_class(stored.id()) != H5T_STRING)
        throw std::runtime_error(failure);
    if (H5Tis_variable_str(stored.id()) > 0) {
        char *text = nullptr;
        if (H5Aread(attribute.id(), stored.id(), static_cast<void *>(&text)) < 0 || !text)
            throw std::runtime_error(failure);
        std::string copy(text);
        H5free_memory(text);
        return copy;
    }
    std::string text(std::min<size_t>(H5Tget_size(stored.id()), 4096), '\0');
    if (H5Tget_size(stored.id()) > text.size() ||
        H5Aread(attribute.id(), stored.id(), text.data()) < 0)
        throw std::runtime_error(failure);
    return text.substr(0, text.find('\0')); // without its padding
}

#else

namespace {
[[noreturn]] void no_library(const std::string &path) {
    throw std::runtime_error(path + ": this program was built without libhdf5: install it "
                                    "(apt-get install libhdf5-dev) and run make bench again");
}
} // namespace

Vectors read_hdf5(const std::string &path, const std::string &, size_t) {
    no_library(path);
}

std::string hdf5_distance(const std::string &path) {
    no_library(path);
}

#endif

} // namespace bench
