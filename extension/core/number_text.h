// Reading the numbers in the text of a vector.
#pragma once

namespace ann {

const char *skip_space(const char *at); // white space of the C locale

// Reads one number at `at`, in a text that ends at `end` with a NUL; returns what follows it, or
// nullptr when there is none. `*overflow`: it is beyond float32; `*underflow`: it is not 0, and too
// small for a float. Numbers are those of C (`1`, `+1.`, `.5`, `1e-3`, `0x1p3`), correctly rounded.
// Needs LC_NUMERIC "C", which PostgreSQL and a C++ program's start keep.
const char *read_float(const char *at, const char *end, float *value, bool *overflow,
                       bool *underflow);

// Reads a whole number in decimal, with a sign perhaps; beyond 64 bits, the nearest there is.
const char *read_integer(const char *at, long long *value);

} // namespace ann
