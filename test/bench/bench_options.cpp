#include "test/bench/bench_options.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <stdexcept>

namespace bench {

namespace {

size_t number(const std::string &text) {
    size_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value == 0)
        throw std::invalid_argument("not a number above 0: " + text);
    return value;
}

std::vector<std::string> split(const std::string &text, char separator) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= text.size();) {
        size_t end = std::min(text.find(separator, begin), text.size());
        parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::vector<size_t> numbers(const std::string &text) {
    std::vector<size_t> values;
    for (const std::string &part : split(text, ','))
        values.push_back(number(part));
    std::ranges::sort(values);
    return values;
}

PostgresOptions &server(BenchOptions &options) {
    if (options.servers.empty())
        throw std::invalid_argument("server=NAME must come before what is said of it");
    return options.servers.back();
}

} // namespace

BenchOptions parse_options(const std::vector<std::string> &words) {
    BenchOptions options;
    using Take = std::function<void(const std::string &)>;
    const std::map<std::string, Take> names = {
        {"data", [&](auto &value) { options.data.path = value; }},
        {"metric", [&](auto &value) { options.data.metric = value; }},
        {"resample", [&](auto &value) { options.data.resample = value == "on"; }},
        {"limit", [&](auto &value) { options.data.limit = number(value); }},
        {"queries", [&](auto &value) { options.data.queries = number(value); }},
        {"rounds", [&](auto &value) { options.rounds = static_cast<int>(number(value)); }},
        {"threads", [&](auto &value) { options.threads = static_cast<int>(number(value)); }},
        {"insert_rows", [&](auto &value) { options.insert_rows = number(value); }},
        {"parts",
         [&](auto &value) {
             for (const std::string &part : split(value, ','))
                 options.parts.insert(part);
         }},
        {"efs", [&](auto &value) { options.efs = numbers(value); }},
        {"server_efs", [&](auto &value) { options.server_efs = numbers(value); }},
        {"server", [&](auto &value) { options.servers.emplace_back().name = value; }},
        {"conninfo", [&](auto &value) { server(options).conninfo = value; }},
        {"extension", [&](auto &value) { server(options).extension = value; }},
        {"type", [&](auto &value) { server(options).type = value; }},
        {"index", [&](auto &value) { server(options).index = value; }},
        {"ef_setting", [&](auto &value) { server(options).ef_setting = value; }},
        {"set", [&](auto &value) { server(options).settings.push_back(value); }},
        {"build_set", [&](auto &value) { server(options).build_settings.push_back(value); }},
    };
    for (const std::string &word : words) {
        const std::string name = word.substr(0, word.find('='));
        auto found = names.find(name);
        if (found == names.end() || name.size() == word.size())
            throw std::invalid_argument("not an option NAME=VALUE: " + word);
        found->second(word.substr(name.size() + 1));
    }
    for (PostgresOptions &peer : options.servers)
        peer.m = static_cast<int>(options.m);
    if (options.server_efs.empty())
        options.server_efs = options.efs;
    if (options.servers.empty() || options.efs.empty() || options.parts.empty())
        throw std::invalid_argument("server, efs and parts are needed");
    return options;
}

} // namespace bench
