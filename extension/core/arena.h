// Containers without destructors, in memory that somebody else frees at once.
//
// A search runs inside PostgreSQL, where an error is a longjmp that skips destructors; so what a
// search holds has none, and its memory belongs to a memory context. In the unit tests the
// memory is malloc's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

namespace ann {

// Gives memory; `allocate` never returns null, it raises the owner's way of "out of memory".
// `release` may give a block back early.
struct Arena {
    void *(*allocate)(void *owner, size_t bytes);
    void (*release)(void *owner, void *memory);
    void *owner;

    template <typename T> T *array(size_t count) const {
        if (count > std::numeric_limits<size_t>::max() / 2 / sizeof(T))
            throw std::length_error("array is too large");
        return static_cast<T *>(allocate(owner, count * sizeof(T)));
    }
};

// A growing array.
template <typename T> class ArenaVector {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  public:
    explicit ArenaVector(Arena arena) : arena_(arena) {}

    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T *begin() { return data_; }
    T *end() { return data_ + size_; }
    const T *begin() const { return data_; }
    const T *end() const { return data_ + size_; }
    T &operator[](size_t i) { return data_[i]; }
    const T &operator[](size_t i) const { return data_[i]; }
    T &back() { return data_[size_ - 1]; }
    T &front() { return data_[0]; }
    void clear() { size_ = 0; }
    void pop_back() { size_--; }
    void truncate(size_t size) { size_ = size; }

    void push_back(const T &value) {
        if (size_ == capacity_)
            grow(capacity_ == 0 ? 32 : capacity_ * 2);
        data_[size_++] = value;
    }
    // Adds room for `count` elements, which are not initialised.
    T *extend(size_t count) {
        if (size_ + count > capacity_)
            grow(std::max(capacity_ * 2, size_ + count));
        size_ += count;
        return data_ + size_ - count;
    }
    void reserve(size_t capacity) {
        if (capacity > capacity_)
            grow(capacity);
    }

  private:
    void grow(size_t capacity) {
        T *data = arena_.array<T>(capacity);
        if (size_ > 0)
            std::memcpy(static_cast<void *>(data), data_, size_ * sizeof(T));
        if (data_ != nullptr)
            arena_.release(arena_.owner, data_);
        data_ = data;
        capacity_ = capacity;
    }

    Arena arena_;
    T *data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

// A set of 64-bit keys that are not all ones: open addressing, at most half full. A small filter
// beside it (Bloom, 1970, of one hash function) tells most keys that are not in it without looking
// there.
class KeySet {
  public:
    explicit KeySet(Arena arena) : arena_(arena) {}

    size_t size() const { return size_; }
    void clear() {
        size_ = 0;
        std::memset(filter_, 0, sizeof(filter_));
        if (keys_ != nullptr)
            std::memset(keys_, 0xFF, (mask_ + 1) * sizeof(uint64_t));
    }
    // False when the key is already there.
    bool insert(uint64_t key) {
        if (keys_ == nullptr || size_ * 2 >= mask_ + 1)
            grow();
        uint64_t *place = find(key);
        if (*place == key)
            return false;
        *place = key;
        filter_[hash(key) >> 58] |= filter_bit(key);
        size_++;
        return true;
    }
    bool contains(uint64_t key) const {
        if (keys_ == nullptr)
            return false;
        uint64_t first = keys_[hash(key) >> 32 & mask_]; // mostly it is this one, or there is none
        return first == key || (first != kEmpty && *find(key) == key);
    }
    // False for no key of the set, and for few others as long as it is small. Without a branch.
    bool may_contain(uint64_t key) const {
        return (filter_[hash(key) >> 58] & filter_bit(key)) != 0;
    }

  private:
    static constexpr uint64_t kEmpty = ~0ull;

    // Its upper half depends on all of the key's lower half, and on the upper one in part.
    static uint64_t hash(uint64_t key) { return key * 0x9E3779B97F4A7C15ull; }
    static uint64_t filter_bit(uint64_t key) { return 1ull << (hash(key) >> 52 & 63); }
    uint64_t *find(uint64_t key) const {
        uint64_t i = hash(key) >> 32;
        for (;; i++) {
            uint64_t *place = &keys_[i & mask_];
            if (*place == key || *place == kEmpty)
                return place;
        }
    }
    void grow() {
        uint64_t *old = keys_;
        size_t old_size = old == nullptr ? 0 : mask_ + 1;
        size_t size = std::max<size_t>(256, old_size * 2);
        keys_ = arena_.array<uint64_t>(size);
        mask_ = size - 1;
        std::memset(keys_, 0xFF, size * sizeof(uint64_t));
        for (size_t i = 0; i < old_size; i++)
            if (old[i] != kEmpty)
                *find(old[i]) = old[i];
        if (old != nullptr)
            arena_.release(arena_.owner, old);
    }

    Arena arena_;
    uint64_t *keys_ = nullptr;
    uint64_t mask_ = 0;
    size_t size_ = 0;
    uint64_t filter_[64] = {};
};

} // namespace ann
