// Differences between PostgreSQL 15 and 18, and nothing else. Each entry names the version that
// made the change; code elsewhere has no PG_VERSION_NUM.
#pragma once

#include "extension/pg/pg.h"

#if PG_VERSION_NUM < 150000
#error "Panvel needs PostgreSQL 15 or later"
#endif
