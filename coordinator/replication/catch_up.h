// Placements that are out of sync get what they have missed, and rejoin. README.md has the
// protocol.
#pragma once

#include "coordinator/remote/remote.h"

namespace panvel {

// Starts a background worker that brings the current database's placements back in sync, where
// there are any that are not. Returns whether there are: somebody has to come back.
bool look_after_placements();

// The table in a shard's schema, on every placement, in which a leader notes the keys of rows that
// placements out of sync have missed.
constexpr const char *kJournal = "panvel_journal";

void init_catch_up(); // settings; from _PG_init

// The commands that create it, as List of char *.
List *journal_commands(const char *schema);

} // namespace panvel
