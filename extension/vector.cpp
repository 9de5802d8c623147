// Module entry of vector.so: settings and access method registration.
#include "extension/pg/boundary.h"

SQL_MODULE() {}
