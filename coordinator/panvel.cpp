// Module entry of panvel.so: settings, hooks, shared memory.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/distribution_label.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/executor/scan_state.h"
#include "coordinator/monitor/monitor.h"
#include "coordinator/planner/modify.h"
#include "coordinator/planner/planner.h"
#include "coordinator/remote/remote.h"
#include "coordinator/replication/catch_up.h"
#include "coordinator/replication/consistency.h"
#include "coordinator/replication/jobs.h"
#include "coordinator/transaction/transaction.h"
#include "extension/pg/boundary.h"

// Loaded lazily (by a function call, without shared_preload_libraries) the module installs no
// hooks and no settings: require_preload() then says what to do.
SQL_MODULE() {
    panvel::init_metadata();
    if (!process_shared_preload_libraries_in_progress)
        return;
    panvel::preloaded = true;
    panvel::init_catalog();
    panvel::init_remote();
    panvel::init_monitor();
    panvel::init_transaction();
    panvel::init_consistency();
    panvel::init_catch_up();
    panvel::init_jobs();
    panvel::init_hedging();
    panvel::init_planner();
    panvel::init_shell();
    panvel::init_distribution_labels();
    panvel::init_ddl();
    panvel::init_modify_planner();
}
