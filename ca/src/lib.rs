//! The Chancery certificate authority: shell around the decisions of `chancery-core`.
//!
//! `grpc -> use cases -> {authority, store, keys} -> core`. `grpc` never names the store or keys; use cases
//! never name tonic or proto; the store decides nothing.

pub mod agents;
pub mod anchors;
pub mod audit;
pub mod authorities;
pub mod authority;
pub mod bound;
pub mod bundles;
pub mod ceremony;
pub mod chance;
pub mod claim;
pub mod classes;
pub mod cli;
pub mod config;
pub mod crls;
pub mod crypto;
pub mod detect;
pub mod downstream;
pub mod enroll;
pub mod entries;
pub mod failures;
pub mod gate;
pub mod grpc;
pub mod hold;
pub mod instance;
pub mod issue;
pub mod keys;
pub mod lifetimes;
pub mod limits;
pub mod live;
pub mod log;
pub mod mark;
pub mod metrics;
mod moment;
pub mod nodes;
pub mod peer;
pub mod policies;
pub mod problem;
pub mod proposals;
pub mod rates;
pub mod revoke;
mod run;
#[cfg(test)]
mod sample;
pub mod siem;
pub mod signing;
pub mod state;
pub mod store;
mod sweep;
pub mod throttle;
pub mod tls;
pub mod trace;
pub mod upstream;
#[cfg(test)]
mod usecase_tests;
pub mod view;
mod waiting;

pub use run::{RunError, Running, run, start};
pub use state::State;
