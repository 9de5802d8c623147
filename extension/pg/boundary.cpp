#include "extension/pg/boundary.h"

#include <stdexcept>

namespace pg::detail {

void describe_current_exception(Failure *failure) noexcept {
    try {
        throw;
    } catch (const Error &error) {
        failure->kind = Failure::kPostgres;
        failure->data = error.data();
    } catch (const std::bad_alloc &) {
        failure->kind = Failure::kOutOfMemory;
    } catch (const std::length_error &error) {
        failure->kind = Failure::kLength;
        strlcpy(failure->message, error.what(), sizeof(failure->message));
    } catch (const std::exception &error) {
        failure->kind = Failure::kOther;
        strlcpy(failure->message, error.what(), sizeof(failure->message));
    } catch (...) {
        failure->kind = Failure::kOther;
        strlcpy(failure->message, "unknown C++ exception", sizeof(failure->message));
    }
}

void raise(const Failure &failure) {
    switch (failure.kind) {
    case Failure::kPostgres:
        ReThrowError(failure.data);
        break;
    case Failure::kOutOfMemory:
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
        break;
    case Failure::kLength:
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s", failure.message)));
        break;
    case Failure::kNone:
    case Failure::kOther:
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("%s", failure.message)));
        break;
    }
    pg_unreachable();
}

} // namespace pg::detail
