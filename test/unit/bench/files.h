// Files that the tests of the readers write: each in a directory that goes with the test.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

class Files : public testing::Test {
  protected:
    Files() {
        std::string name = std::filesystem::temp_directory_path() / "panvel-";
        name.append(6, 'X'); // what mkdtemp() replaces
        if (mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no temporary directory");
        directory_ = name;
    }
    ~Files() override { std::filesystem::remove_all(directory_); }

    std::string path(const std::string &name) const { return (directory_ / name).string(); }
    std::string write(const std::string &name, const std::string &bytes) const {
        std::ofstream(path(name), std::ios::binary) << bytes;
        return path(name);
    }

  private:
    std::filesystem::path directory_;
};

inline std::string little_endian(uint32_t value) {
    std::string bytes;
    for (int shift = 0; shift < 32; shift += 8)
        bytes.push_back(static_cast<char>(value >> shift));
    return bytes;
}

inline std::string big_endian(uint32_t value) {
    std::string bytes = little_endian(value);
    return {bytes.rbegin(), bytes.rend()};
}

inline std::string fvecs_record(const std::vector<float> &vector) {
    std::string bytes = little_endian(static_cast<uint32_t>(vector.size()));
    for (float value : vector)
        bytes += little_endian(std::bit_cast<uint32_t>(value));
    return bytes;
}

// What `read` throws; "" if nothing.
template <typename Read> std::string error_of(Read read) {
    try {
        read();
    } catch (const std::runtime_error &error) {
        return error.what();
    }
    return "";
}
