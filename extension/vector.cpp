// Module entry of vector.so: settings and access method registration.
#include "extension/hnsw/hnsw.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

SQL_MODULE() {
    pg::entry([] {
        vec::init_types();
        vec::init_hnsw();
    });
}
