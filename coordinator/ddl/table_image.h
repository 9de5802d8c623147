// What a shell's definition is at one moment, as far as its shards share it: taken before a
// statement and after it, two images tell what has changed, whatever made it change.
//
// Texts are parts of statements with every name qualified and without the table's own, so that they
// fit any shard.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/attnum.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
}

namespace panvel {

struct ColumnImage {
    AttrNumber number;
    const char *name;
    Oid type;
    int32 typmod;
    Oid collation;
    bool not_null;
    char generated; // of pg_attribute
    char storage;
    char compression;
    int statistics;      // target; -1: the default
    const char *options; // "n_distinct='5', ..." or empty
};

struct IndexImage {
    Oid oid;
    const char *name;
    const char *definition; // "UNIQUE" or nothing, then "USING btree (n) ..."
    const char *options;    // storage parameters
    List *statistics;       // integer List: a target per column, -1: the default
    bool clustered;
    bool replica_identity;
    bool valid;
    Oid constraint; // invalid: none
};

struct ConstraintImage {
    Oid oid;
    const char *name;
    char type; // of pg_constraint
    const char
        *definition;  // without NOT VALID; of a foreign key from "FOREIGN KEY" up to REFERENCES
    const char *tail; // of a foreign key: what follows the name of the referenced table
    Oid referenced;   // of a foreign key
    bool valid;
    bool deferrable;
    bool deferred; // initially
    Oid index;     // of a primary key, unique or exclusion constraint
};

// A policy or a statistics object.
struct ObjectImage {
    Oid oid;
    const char *name;
    const char *definition; // what follows its name and the table's, or surrounds the latter
    int target;             // of a statistics object
    bool has_subquery;      // of a policy
};

struct TableImage {
    Oid relid;
    const char *name;
    Oid owner;
    const char *options;       // storage parameters
    const char *toast_options; // with the prefix "toast."
    bool row_security;
    bool force_row_security;
    char replica_identity;
    const char *rights; // the ACLs of the table and its columns as text
    List *roles;        // char *: those that have rights
    List *columns;      // ColumnImage *, by number
    List *indexes;      // IndexImage *
    List *constraints;  // ConstraintImage *: CHECK, foreign keys, and those that have an index
    List *policies;     // ObjectImage *
    List *statistics;   // ObjectImage *
};

// In CurrentMemoryContext. REQUIRES: search_path = pg_catalog (enter_qualified_names()).
TableImage *take_image(Relation relation);

const ColumnImage *find_column(const TableImage *image, AttrNumber number);

// "CREATE STATISTICS <schema>.<name> ... FROM <table>" for a shard.
char *statistics_command(const ObjectImage *statistics, const char *schema, const char *table);

} // namespace panvel
