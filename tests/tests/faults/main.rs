//! What breaks in production, done for real: processes killed, databases that restart, fail over, hang or fill up,
//! networks cut, clocks that jump. After each the same claims hold: see `ledger`.
//!
//! `CHANCERY_FAULT_ROUNDS` = how often each fault is done (`make faults`: 20; else once). What needs root, or a
//! program that is not there, says so and is named in the report (`CHANCERY_FAULT_REPORT`).

mod cluster;
mod dial;
mod ledger;
mod load;
mod mount;
mod node;
mod proxy;
mod report;
mod server;
mod stage;

mod clock;
mod crash;
mod disk;
mod failover;
mod fsync;
mod kill;
mod partition;
mod pooler;
mod replicated;
mod restart;
mod restore;
mod stale;
mod upgrade;
