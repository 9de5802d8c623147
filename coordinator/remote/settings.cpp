#include "coordinator/remote/settings.h"

#include "coordinator/remote/connection.h"
#include "extension/pg/compat.h"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

namespace panvel {
namespace {

// What a statement means or how well it is answered; not what concerns only the coordinator
// (work_mem, statement_timeout: the coordinator cancels) and not how values travel
// (extra_float_digits, client_encoding: fixed when a connection starts).
constexpr const char *kForwarded[] = {
    "TimeZone",           "DateStyle",
    "IntervalStyle",      "array_nulls",
    "bytea_output",       "default_text_search_config",
    "enable_bitmapscan",  "enable_indexonlyscan",
    "enable_indexscan",   "enable_seqscan",
    "enable_sort",        "lc_monetary",
    "lc_numeric",         "lc_time",
    "lock_timeout",       "row_security",
    "synchronous_commit", "xmlbinary",
    "xmloption",
};
constexpr const char *kForwardedPrefixes[] = {"hnsw.", "ivfflat."};

// A setting's variable and the value it had when `current` was made.
struct Tracked {
    config_generic *variable;
    int position; // in PostgreSQL's array
    union {
        bool boolean;
        int integer; // enums too
        double real;
    };
    char *text;
};

Tracked *tracked;
int tracked_count;
config_generic **variables;
int variable_count;
Settings *current;

bool is_forwarded(const config_generic *variable) {
    for (const char *name : kForwarded)
        if (strcmp(variable->name, name) == 0)
            return true;
    for (const char *prefix : kForwardedPrefixes)
        if (strncmp(variable->name, prefix, strlen(prefix)) == 0)
            return true;
    // A setting of the user's own, which a policy may ask for.
    return (variable->flags & GUC_CUSTOM_PLACEHOLDER) != 0;
}

bool same_value(const Tracked &setting) {
    switch (setting.variable->vartype) {
    case PGC_BOOL:
        return *reinterpret_cast<config_bool *>(setting.variable)->variable == setting.boolean;
    case PGC_INT:
        return *reinterpret_cast<config_int *>(setting.variable)->variable == setting.integer;
    case PGC_ENUM:
        return *reinterpret_cast<config_enum *>(setting.variable)->variable == setting.integer;
    case PGC_REAL:
        return *reinterpret_cast<config_real *>(setting.variable)->variable == setting.real;
    case PGC_STRING: {
        const char *now = *reinterpret_cast<config_string *>(setting.variable)->variable;
        return strcmp(now ? now : "", setting.text) == 0;
    }
    }
    return false;
}

void remember_value(Tracked *setting) {
    switch (setting->variable->vartype) {
    case PGC_BOOL:
        setting->boolean = *reinterpret_cast<config_bool *>(setting->variable)->variable;
        break;
    case PGC_INT:
        setting->integer = *reinterpret_cast<config_int *>(setting->variable)->variable;
        break;
    case PGC_ENUM:
        setting->integer = *reinterpret_cast<config_enum *>(setting->variable)->variable;
        break;
    case PGC_REAL:
        setting->real = *reinterpret_cast<config_real *>(setting->variable)->variable;
        break;
    case PGC_STRING: {
        const char *now = *reinterpret_cast<config_string *>(setting->variable)->variable;
        char *copy = MemoryContextStrdup(remote_context, now ? now : "");
        if (setting->text)
            pfree(setting->text);
        setting->text = copy;
        break;
    }
    }
}

// PostgreSQL replaces or moves its variables when a library defines its own.
bool variables_moved() {
    if (tracked == nullptr || variables != get_guc_variables() ||
        variable_count != GetNumConfigOptions())
        return true;
    for (int i = 0; i < tracked_count; i++)
        if (variables[tracked[i].position] != tracked[i].variable)
            return true;
    return false;
}

void find_variables() {
    config_generic **all = get_guc_variables();
    int count = GetNumConfigOptions();
    int found = 0;
    for (int i = 0; i < count; i++)
        found += is_forwarded(all[i]);
    Tracked *list = static_cast<Tracked *>(
        MemoryContextAllocZero(remote_context, sizeof(Tracked) * (found + 1)));
    found = 0;
    for (int i = 0; i < count; i++) {
        if (!is_forwarded(all[i]))
            continue;
        list[found].variable = all[i];
        list[found].position = i;
        found++;
    }
    if (tracked) {
        for (int i = 0; i < tracked_count; i++)
            if (tracked[i].text)
                pfree(tracked[i].text);
        pfree(tracked);
    }
    tracked = list;
    tracked_count = found;
    variables = all;
    variable_count = count;
}

// Dates travel in ISO form whatever the session shows; which of day and month comes first in
// ambiguous input is the session's.
const char *date_style() {
    switch (DateOrder) {
    case DATEORDER_YMD:
        return "ISO, YMD";
    case DATEORDER_DMY:
        return "ISO, DMY";
    default:
        return "ISO, MDY";
    }
}

Settings *read_settings() {
    MemoryContext before = MemoryContextSwitchTo(remote_context);
    Settings *settings = static_cast<Settings *>(palloc0(sizeof(Settings)));
    settings->names = static_cast<const char **>(palloc0(sizeof(char *) * (tracked_count + 1)));
    settings->values = static_cast<char **>(palloc0(sizeof(char *) * (tracked_count + 1)));
    settings->references = 1;
    settings->count = tracked_count + 1;
    for (int i = 0; i < tracked_count; i++) {
        const char *name = tracked[i].variable->name;
        const char *value =
            strcmp(name, "DateStyle") == 0 ? date_style() : GetConfigOption(name, false, false);
        settings->names[i] = pstrdup(name);
        settings->values[i] = pstrdup(value ? value : "");
        remember_value(&tracked[i]);
    }
    settings->names[tracked_count] = pstrdup("search_path");
    settings->values[tracked_count] = pstrdup("pg_catalog");
    MemoryContextSwitchTo(before);
    return settings;
}

} // namespace

const Settings *current_settings() {
    bool same = current != nullptr && !variables_moved();
    for (int i = 0; same && i < tracked_count; i++)
        same = same_value(tracked[i]);
    if (same)
        return current;
    if (variables_moved())
        find_variables();
    Settings *settings = read_settings();
    release_settings(current);
    current = settings;
    return current;
}

const Settings *settings_with_search_path(const char *search_path) {
    current_settings(); // what is tracked is up to date then
    Settings *settings = read_settings();
    char **value = &settings->values[settings->count - 1];
    pfree(*value);
    *value = MemoryContextStrdup(remote_context, search_path);
    return settings;
}

const Settings *hold_settings(const Settings *settings) {
    const_cast<Settings *>(settings)->references++;
    return settings;
}

void release_settings(const Settings *settings) {
    if (settings == nullptr)
        return;
    Settings *mine = const_cast<Settings *>(settings);
    if (--mine->references > 0)
        return;
    for (int i = 0; i < mine->count; i++) {
        pfree(const_cast<char *>(mine->names[i]));
        pfree(mine->values[i]);
    }
    pfree(mine->names);
    pfree(mine->values);
    pfree(mine);
}

} // namespace panvel
