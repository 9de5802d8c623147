#include "test/bench/client.h"

#include <bit>

namespace client {

namespace {

uint64_t big_endian(std::string_view bytes, size_t width) {
    if (bytes.size() != width)
        throw Error("a value of " + std::to_string(bytes.size()) + " bytes instead of " +
                    std::to_string(width));
    uint64_t value = 0;
    for (char byte : bytes)
        value = value << 8 | static_cast<unsigned char>(byte);
    return value;
}

template <typename Unsigned> void append(std::string &bytes, Unsigned value) {
    for (int shift = static_cast<int>(sizeof(value)) * 8 - 8; shift >= 0; shift -= 8)
        bytes.push_back(static_cast<char>(value >> shift));
}

} // namespace

void Buffer::add16(uint16_t value) {
    append(bytes_, value);
}
void Buffer::add32(uint32_t value) {
    append(bytes_, value);
}
void Buffer::add64(uint64_t value) {
    append(bytes_, value);
}

void Buffer::add_vector(std::span<const float> values) {
    add16(static_cast<uint16_t>(values.size()));
    add16(0);
    for (float value : values)
        add32(std::bit_cast<uint32_t>(value));
}

int16_t Result::int16(int row, int column) const {
    return static_cast<int16_t>(big_endian(value(row, column), 2));
}
int64_t Result::int64(int row, int column) const {
    return static_cast<int64_t>(big_endian(value(row, column), 8));
}
double Result::float64(int row, int column) const {
    return std::bit_cast<double>(big_endian(value(row, column), 8));
}

Connection::Connection(const std::string &conninfo) : connection_(PQconnectdb(conninfo.c_str())) {
    if (PQstatus(connection_.get()) != CONNECTION_OK)
        fail("connect");
    PQsetNoticeProcessor(
        connection_.get(), [](void *, const char *) {}, nullptr);
}

Result Connection::query(const std::string &sql) {
    return checked(PQexec(connection_.get(), sql.c_str()));
}

std::string Connection::value(const std::string &sql) {
    Result result = query(sql);
    if (result.rows() != 1 || result.columns() != 1)
        throw Error("not one row with one column: " + sql);
    return std::string(result.value(0, 0));
}

void Connection::prepare(const std::string &name, const std::string &sql,
                         std::initializer_list<const char *> types) {
    std::vector<Oid> oids;
    for (const char *type : types)
        oids.push_back(
            static_cast<Oid>(std::stoul(value("select " + literal(type) + "::regtype::oid"))));
    checked(PQprepare(connection_.get(), name.c_str(), sql.c_str(), static_cast<int>(oids.size()),
                      oids.data()));
}

Result Connection::execute(const std::string &name,
                           std::initializer_list<std::reference_wrapper<const Buffer>> parameters) {
    std::vector<const char *> values;
    std::vector<int> lengths;
    for (const Buffer &parameter : parameters) {
        values.push_back(parameter.bytes().data());
        lengths.push_back(static_cast<int>(parameter.bytes().size()));
    }
    const std::vector<int> formats(values.size(), 1);
    return checked(PQexecPrepared(connection_.get(), name.c_str(), static_cast<int>(values.size()),
                                  values.data(), lengths.data(), formats.data(), 1));
}

void Connection::copy_start(const std::string &sql) {
    checked(PQexec(connection_.get(), sql.c_str()), PGRES_COPY_IN);
}

void Connection::copy_put(const Buffer &data) {
    if (PQputCopyData(connection_.get(), data.bytes().data(),
                      static_cast<int>(data.bytes().size())) != 1)
        fail("COPY");
}

void Connection::copy_end() {
    if (PQputCopyEnd(connection_.get(), nullptr) != 1)
        fail("COPY");
    checked(PQgetResult(connection_.get()));
    while (PGresult *result = PQgetResult(connection_.get()))
        PQclear(result);
}

std::string Connection::literal(const std::string &text) {
    char *quoted = PQescapeLiteral(connection_.get(), text.data(), text.size());
    if (quoted == nullptr)
        fail("quote");
    std::string copy(quoted);
    PQfreemem(quoted);
    return copy;
}

std::string Connection::identifier(const std::string &name) {
    char *quoted = PQescapeIdentifier(connection_.get(), name.data(), name.size());
    if (quoted == nullptr)
        fail("quote");
    std::string copy(quoted);
    PQfreemem(quoted);
    return copy;
}

Result Connection::checked(PGresult *raw, ExecStatusType expected_too) {
    Result result(raw);
    ExecStatusType status = PQresultStatus(raw);
    if (status != PGRES_COMMAND_OK && status != expected_too)
        fail("statement");
    return result;
}

void Connection::fail(const std::string &what) {
    std::string message = PQerrorMessage(connection_.get());
    throw Error(message.empty() ? what + " failed" : message);
}

} // namespace client
