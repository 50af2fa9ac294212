//! The Chancery certificate authority: shell around the decisions of `chancery-core`.
//!
//! `grpc -> use cases -> {authority, store, keys} -> core`. `grpc` never names the store or keys; use cases
//! never name tonic or proto; the store decides nothing.

pub mod agents;
pub mod authority;
pub mod bundles;
pub mod chance;
pub mod classes;
pub mod config;
pub mod crypto;
pub mod enroll;
pub mod entries;
pub mod failures;
pub mod gate;
pub mod grpc;
pub mod instance;
pub mod issue;
pub mod keys;
pub mod lifetimes;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod peer;
pub mod problem;
mod run;
pub mod state;
pub mod store;
mod sweep;
pub mod tls;
pub mod view;

pub use run::{RunError, run};
pub use state::State;
