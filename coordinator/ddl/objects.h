// Objects that a table needs on the nodes besides its shards: types, domains, functions,
// collations, their schemas, and extensions. They are created on all nodes with the first table
// that needs them, listed in panvel.node_object, altered and dropped there from then on as they are
// here. See README.md in this directory.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "catalog/objectaddress.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/relcache.h"
}

namespace panvel {

// ---- object_needs.cpp: what depends on what

struct NeededObject {
    ObjectAddress address;
    bool creatable; // else it has to be on the nodes already
};

// What the shards of the table need, and what that needs, in an order in which it can be created:
// List of NeededObject *. Without what every node has. 0A000 for what no node can have (a
// relation).
List *objects_needed_by_table(Relation relation);

// The object itself and what it needs.
List *objects_needed_by(const ObjectAddress *object);

// ---- object_definition.cpp: what an object is, as statements. All REQUIRE search_path =
// pg_catalog (enter_qualified_names()).

// A query that gives the statements that create the object, one per row, wherever it is run: no
// row where there is no such object. Two objects with the same answer are equal.
char *definition_query(const NeededObject *object);

// Its answer here, as List of char *.
List *object_definition(const NeededObject *object);

// The catalog row of an object that nodes can be given.
struct ObjectRow {
    const char *kind;      // "FUNCTION", as ALTER, DROP and GRANT take it
    Oid schema;            // invalid for a schema
    const char *name;      // not quoted
    const char *arguments; // of a function: "(integer, text)"; else empty
    Oid owner;             // invalid for an extension, which has no owner to set
    Acl *rights;           // null: the default
    const char *version;   // of an extension its own; else another one whenever the row changes
    bool not_null;         // of a domain
};

// False where there is no such object.
bool read_object(const ObjectAddress *object, ObjectRow *row);

// "app.double(integer)", in the schema of this name (null: none is part of it).
char *object_name(const ObjectRow *row, const char *schema);
char *object_name(const ObjectRow *row); // in its own

// The statements that give a new object on a node the rights and the owner that it has here.
List *object_rights_commands(const ObjectRow *row);

// REVOKE from everybody who had rights (`before`) and the GRANTs of what `row` has.
List *object_grant_commands(const ObjectRow *row, const Acl *before);

// The rows of a query over the catalogs as they are now: List of char **, a value per column (null:
// NULL). In CurrentMemoryContext.
List *catalog_rows(const char *sql);

// ---- node_objects.cpp: on the nodes

// Creates on all nodes what is not there yet; an error where a node has another object of the name.
// `relation`: the table that needs them, for messages; may be null.
void create_on_nodes(List *objects, Relation relation);

// Creates on a new node all that the others have.
void copy_objects_to_node(int32 node_id);

// Whether the nodes have the object because of panvel.node_object.
bool is_on_nodes(Oid class_id, Oid object_id);

// From the object access hook: an object is about to be dropped, and goes from the nodes when the
// statement has ended (flush_object_drops()).
void note_object_drop(Oid class_id, Oid object_id, int sub_id);
void flush_object_drops();
void init_node_objects(); // callbacks; from init_ddl()

// ---- object_changes.cpp: before and after a statement

// The objects on the nodes as they are before a statement that may alter some of them; NIL where it
// cannot, or there are none.
List *objects_before(Node *statement);

// Tells the nodes what has changed since.
void settle_objects(List *before);

// All objects of panvel.node_object, as List of ObjectAddress *.
List *all_node_objects();

} // namespace panvel
