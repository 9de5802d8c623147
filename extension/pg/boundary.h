// The one boundary between C++ and PostgreSQL.
//
// PostgreSQL reports errors with longjmp, which skips C++ destructors; a C++ exception that
// leaves a PostgreSQL callback is undefined behaviour. Hence two rules:
//
//  1. Every function that PostgreSQL calls (SQL functions, access method callbacks, hooks) runs
//     its body in pg::entry(), which turns any C++ exception into an ereport once all C++
//     frames have unwound. SQL_FUNCTION() does that for SQL-callable functions.
//  2. Code that holds an object with a destructor (std::vector, std::string, a lock guard) calls
//     PostgreSQL only through pg::call(), which turns an ereport(ERROR) into a pg::Error
//     exception. Code that holds only what a MemoryContext or ResourceOwner owns may call
//     PostgreSQL directly; this is the usual style outside core/.
//
// Threads never call anything of PostgreSQL.
#pragma once

#include "extension/pg/pg.h"

namespace pg {

// A PostgreSQL error under way as a C++ exception. Owns nothing: `data` lives in the memory
// context that was current when pg::call() was entered.
class Error final : public std::exception {
  public:
    explicit Error(ErrorData *data) : data_(data) {}
    ErrorData *data() const { return data_; }
    const char *what() const noexcept override { return data_->message ? data_->message : "error"; }

  private:
    ErrorData *data_;
};

namespace detail {

// What a failed entry body leaves behind; plain data, so that longjmp skips no destructor.
struct Failure {
    enum Kind { kNone, kPostgres, kOutOfMemory, kLength, kOther } kind = kNone;
    ErrorData *data = nullptr;
    char message[256] = "";
};

// Fills `failure` from the exception being handled; call only inside a catch block.
void describe_current_exception(Failure *failure) noexcept;

// Raises `failure` as a PostgreSQL error. Does not return.
[[noreturn]] void raise(const Failure &failure);

} // namespace detail

// Runs `body` as the outermost C++ frame under a PostgreSQL callback and returns its result. Any
// C++ exception becomes ereport(ERROR): pg::Error as it was, bad_alloc as 53200, others as XX000.
template <typename Body> auto entry(Body &&body) -> decltype(body()) {
    detail::Failure failure;
    try {
        return body();
    } catch (...) {
        detail::describe_current_exception(&failure);
    }
    detail::raise(failure);
}

// Runs `body`, which calls PostgreSQL, from C++ code that holds objects with destructors. An
// ereport(ERROR) inside becomes a pg::Error thrown here; C++ exceptions pass through. `body` must
// not itself create objects with destructors that are alive when PostgreSQL may raise.
template <typename Body> auto call(Body &&body) -> decltype(body()) {
    using Result = decltype(body());
    MemoryContext context = CurrentMemoryContext;
    ErrorData *volatile error = nullptr;
    std::exception_ptr exception;
    auto guarded = [&](auto &&run) {
        PG_TRY();
        {
            try {
                run();
            } catch (...) {
                exception = std::current_exception();
            }
        }
        PG_CATCH();
        {
            MemoryContextSwitchTo(context);
            error = CopyErrorData();
            FlushErrorState();
        }
        PG_END_TRY();
        if (error != nullptr)
            throw Error(error);
        if (exception)
            std::rethrow_exception(exception);
    };
    if constexpr (std::is_void_v<Result>) {
        guarded([&] { body(); });
    } else {
        static_assert(std::is_trivially_destructible_v<Result>);
        Result result{};
        guarded([&] { result = body(); });
        return result;
    }
}

// Runs `body`, pure C++ that may throw but never calls PostgreSQL, from PostgreSQL-style code.
// The same as entry(); the name says which way the call goes.
template <typename Body> auto core(Body &&body) -> decltype(body()) {
    return entry(std::forward<Body>(body));
}

} // namespace pg

// Defines an SQL-callable function; the body follows in braces and sees `fcinfo`:
//     SQL_FUNCTION(vector_dims) { ... PG_RETURN_INT32(n); }
#define SQL_FUNCTION(name)                                                                         \
    static Datum name##_body(FunctionCallInfo fcinfo);                                             \
    extern "C" {                                                                                   \
    __attribute__((visibility("default"))) extern const Pg_finfo_record *pg_finfo_##name(void);    \
    const Pg_finfo_record *pg_finfo_##name(void) {                                                 \
        static const Pg_finfo_record record = {1};                                                 \
        return &record;                                                                            \
    }                                                                                              \
    __attribute__((visibility("default"))) extern Datum name(PG_FUNCTION_ARGS);                    \
    Datum name(PG_FUNCTION_ARGS) {                                                                 \
        return pg::entry([&] { return name##_body(fcinfo); });                                     \
    }                                                                                              \
    }                                                                                              \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)

// PG_MODULE_MAGIC and _PG_init with the visibility that our -fvisibility=hidden needs.
#define SQL_MODULE()                                                                               \
    extern "C" {                                                                                   \
    __attribute__((visibility("default"))) extern const Pg_magic_struct *Pg_magic_func(void);      \
    const Pg_magic_struct *Pg_magic_func(void) {                                                   \
        static const Pg_magic_struct magic = PG_MODULE_MAGIC_DATA;                                 \
        return &magic;                                                                             \
    }                                                                                              \
    __attribute__((visibility("default"))) extern void _PG_init(void);                             \
    }                                                                                              \
    extern "C" void _PG_init(void)
