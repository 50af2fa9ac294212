//! The Chancery node daemon: proves the machine, keeps the node's identity fresh, and serves the
//! SPIFFE Workload API to the processes on it.
//!
//! Inside: `api -> workload -> cache`, `sync -> plan -> cache`, and for the node itself
//! `run -> enroll -> {node, tpm, state} -> ca`. Nothing here decides who may have what: the CA does.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod api;
pub mod ca;
pub mod cache;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod doctor;
pub mod enroll;
pub mod identity;
pub mod instance;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod pkcs11;
pub mod plan;
pub mod run;
pub mod state;
pub mod sync;
pub mod taint;
pub mod tpm;
pub mod upstream;
pub mod witness;
pub mod workload;
