// Module entry of panvel.so: settings, hooks, shared memory.
#include "extension/pg/boundary.h"

SQL_MODULE() {}
