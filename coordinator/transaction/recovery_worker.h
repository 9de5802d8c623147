// Background workers that run recover_transactions() in every database with panvel.
#pragma once

namespace panvel {

void init_recovery_worker(); // from _PG_init while preloading

} // namespace panvel
