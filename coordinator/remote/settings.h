// The session's settings that change what a statement answers on a worker.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

// The values at one moment, never changed; shared by the connections that have them.
struct Settings {
    int references;
    int count;
    const char **names;
    char **values;
};

// The current values; the same object as long as nothing changed. Costs a few dozen loads then.
const Settings *current_settings();

// A copy of the current values with this search_path instead of pg_catalog, held once for the
// caller.
const Settings *settings_with_search_path(const char *search_path);

const Settings *hold_settings(const Settings *settings);
void release_settings(const Settings *settings); // null is allowed

} // namespace panvel
