#include "coordinator/core/gid.h"

#include <charconv>

namespace panvel {
namespace {

constexpr std::string_view kPrefix = "panvel_";

void append(std::string &text, auto value, int base) {
    char digits[24];
    auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value, base);
    text.append(digits, end);
}

// Takes a number and the separator behind it off the front of `text`. Only the form that
// format_gid() writes: no sign but a minus, no leading zero.
template <typename Number> bool take(std::string_view &text, Number &value, int base, bool last) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc())
        return false;
    size_t length = static_cast<size_t>(end - text.data());
    text.remove_prefix(length);
    if (last)
        return text.empty();
    if (text.empty() || text.front() != '_')
        return false;
    text.remove_prefix(1);
    return true;
}

} // namespace

std::string gid_prefix(uint64_t system, uint32_t database) {
    std::string text(kPrefix);
    append(text, system, 10);
    text += '_';
    append(text, database, 10);
    text += '_';
    return text;
}

std::string format_gid(const Gid &gid) {
    std::string text = gid_prefix(gid.system, gid.database);
    append(text, gid.transaction, 10);
    text += '_';
    append(text, gid.nonce, 16);
    text += '_';
    append(text, gid.node, 10);
    text += '_';
    append(text, gid.branch, 10);
    return text;
}

std::optional<Gid> parse_gid(std::string_view name) {
    if (!name.starts_with(kPrefix))
        return std::nullopt;
    std::string_view rest = name.substr(kPrefix.size());
    Gid gid{};
    if (!take(rest, gid.system, 10, false) || !take(rest, gid.database, 10, false) ||
        !take(rest, gid.transaction, 10, false) || !take(rest, gid.nonce, 16, false) ||
        !take(rest, gid.node, 10, false) || !take(rest, gid.branch, 10, true))
        return std::nullopt;
    if (format_gid(gid) != name)
        return std::nullopt;
    return gid;
}

Verdict decide(bool running, bool recorded) {
    if (running)
        return Verdict::kUndecided;
    return recorded ? Verdict::kCommit : Verdict::kRollback;
}

} // namespace panvel
