// The statements that make a shard's table like its shell. Built from the coordinator's catalog
// with every name qualified, never from what the user typed.
//
// All functions REQUIRE search_path = pg_catalog (see QualifiedNames), so that PostgreSQL's own
// deparsing functions qualify what they print.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
#include "utils/relcache.h"
}

namespace panvel {

// Sets search_path = pg_catalog until leave_qualified_names(); an error ends it by itself.
int enter_qualified_names();
void leave_qualified_names(int level);

// CREATE TABLE and what cannot be said in it (storage, statistics targets, owner, grants), as
// List of char *. Without indexes and the constraints that have one.
List *shard_table_commands(Relation relation, const char *schema);

// The GRANTs that give on a shard the rights that the shell has, as List of char *.
List *shard_grant_commands(Relation relation, const char *schema);

// Indexes and the constraints that have one, as List of char *.
List *shard_index_commands(Relation relation, const char *schema);

// CREATE INDEX of one index of the shell, for the table of the same name in `schema`.
char *shard_index_command(Oid index, const char *schema);

// Names of the roles that the commands above mention, as List of char *.
List *shard_table_roles(Relation relation);

// ---- parts of them

// "name type COLLATE ... GENERATED ... NOT NULL", as a column is defined. `default_value`: an
// expression for the rows that are there, or null.
char *column_definition(Relation relation, AttrNumber column, const char *default_value);
char *column_type(Oid type, int32 typmod);
char *qualified_collation(Oid collation);
const char *storage_name(char storage);

// "name='value', ..." of pg_class.reloptions with `prefix` before each name, or of
// pg_attribute.attoptions; empty where there are none.
char *relation_options(Oid relid, const char *prefix);
char *column_options(Oid relid, AttrNumber column);

// "USING btree (n) ...": what follows the table's name in CREATE INDEX.
char *index_definition_tail(Relation index);

// The ACLs of the table and its columns, to compare.
char *rights_as_text(Relation relation);

} // namespace panvel
