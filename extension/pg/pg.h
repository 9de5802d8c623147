// PostgreSQL's headers as C++ sees them.
//
// Include this before any other PostgreSQL header, and other PostgreSQL headers inside
// extern "C". The C++ standard headers come first, because postgres.h defines macros
// (snprintf, strerror, gettext, _) that would otherwise reach into them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

extern "C" {
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/memutils.h"
}

// PostgreSQL checks macro arguments (lists, ilist.h) with GCC builtins that C++ has not.
#undef AssertVariableIsOfType
#define AssertVariableIsOfType(varname, typename) ((void)0)
#undef AssertVariableIsOfTypeMacro
#define AssertVariableIsOfTypeMacro(varname, typename) ((void)0)

// Our own assertions: on in a Debug build or with -DPANVEL_ASSERT=ON. They raise PANIC, so
// that a test run stops with a core at the place.
#if defined(PANVEL_ASSERTIONS)
#define PANVEL_ASSERT(condition)                                                                   \
    do {                                                                                           \
        if (!(condition))                                                                          \
            elog(PANIC, "assertion failed: %s (%s:%d)", #condition, __FILE__, __LINE__);           \
    } while (0)
#else
#define PANVEL_ASSERT(condition) ((void)sizeof(condition))
#endif
