// Module entry of vector.so: settings and access method registration.
#include "extension/types/vector.h"
#include "extension/hnsw/distance_scan.h"
#include "extension/hnsw/hnsw.h"
#include "extension/ivfflat/ivfflat.h"
#include "extension/pg/boundary.h"

SQL_MODULE() {
    pg::entry([] {
        vec::init_distance_scan();
        vec::init_types();
        vec::init_hnsw();
        ivf::init_ivfflat();
    });
}
