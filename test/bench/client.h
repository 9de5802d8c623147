// A libpq client for the demo and the benchmarks: connections and results that clean up after
// themselves, and the binary forms of the few types they send.
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace client {

// A failed connection, statement or COPY; the message is the server's.
class Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Bytes in network order: a binary parameter, or the rows of a binary COPY.
class Buffer {
  public:
    void add16(uint16_t value);
    void add32(uint32_t value);
    void add64(uint64_t value);
    // A value of type vector as vector_send writes it: dimensions, 0, float4 values.
    void add_vector(std::span<const float> values);
    void add_text(std::string_view text) { bytes_.append(text); }
    void clear() { bytes_.clear(); }
    const std::string &bytes() const { return bytes_; }

  private:
    std::string bytes_;
};

class Result {
  public:
    explicit Result(PGresult *result) : result_(result) {}
    int rows() const { return PQntuples(result_.get()); }
    int columns() const { return PQnfields(result_.get()); }
    // The value as text, or as the bytes of its binary form; "" for NULL.
    std::string_view value(int row, int column) const {
        return {PQgetvalue(result_.get(), row, column),
                static_cast<size_t>(PQgetlength(result_.get(), row, column))};
    }
    // Values of a result in binary form.
    int16_t int16(int row, int column) const;
    int64_t int64(int row, int column) const;
    double float64(int row, int column) const;

  private:
    struct Clear {
        void operator()(PGresult *result) const { PQclear(result); }
    };
    std::unique_ptr<PGresult, Clear> result_;
};

// A synchronous connection, used by one thread at a time. Every function throws Error.
class Connection {
  public:
    explicit Connection(const std::string &conninfo);

    // The result of one statement, or of the last of several, as text.
    Result query(const std::string &sql);
    // Its single value.
    std::string value(const std::string &sql);

    // Prepares `sql` as statement `name`; its parameters $1, ... are of these types ("vector").
    void prepare(const std::string &name, const std::string &sql,
                 std::initializer_list<const char *> types);
    // Runs it with binary parameters $1, ...; the result is binary.
    Result execute(const std::string &name,
                   std::initializer_list<std::reference_wrapper<const Buffer>> parameters);

    // COPY ... FROM STDIN: start, any number of puts, end.
    void copy_start(const std::string &sql);
    void copy_put(const Buffer &data);
    void copy_end();

    // What a string means inside SQL text, quotes included.
    std::string literal(const std::string &text);
    std::string identifier(const std::string &name);
    // The port it is connected to.
    std::string port() const { return PQport(connection_.get()); }

  private:
    struct Finish {
        void operator()(PGconn *connection) const { PQfinish(connection); }
    };
    Result checked(PGresult *result, ExecStatusType expected_too = PGRES_TUPLES_OK);
    [[noreturn]] void fail(const std::string &what);

    std::unique_ptr<PGconn, Finish> connection_;
};

} // namespace client
