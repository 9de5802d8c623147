// The planner hooks for reading distributed relations.
#pragma once

namespace panvel {

void init_planner(); // installs the hooks; from _PG_init

} // namespace panvel
