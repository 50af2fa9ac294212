//! Conformance of the store: every fact and every refusal, on both databases.

#[path = "../../../tests/src/postgres.rs"]
#[allow(unreachable_pub, reason = "shared with the whole-system tests")]
mod postgres;

mod bench;
mod sample;

mod authorities;
mod claims;
mod crls;
mod entries;
mod evidence;
mod figures;
mod guests;
mod holds;
mod hot;
mod index;
mod instances;
mod issuing;
mod keys;
mod log;
mod migration;
mod nodes;
mod opening;
mod others;
mod proposals;
mod record;
mod records;
mod revocation;
mod running;
mod svids;
mod trouble;
mod view;
