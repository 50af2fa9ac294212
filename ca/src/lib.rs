//! The Chancery certificate authority: shell around the decisions of `chancery-core`.
//!
//! `grpc -> use cases -> {authority, store, keys} -> core`. `grpc` never names the store or keys; use cases
//! never name tonic or proto; the store decides nothing.

pub mod authority;
pub mod config;
pub mod enroll;
pub mod failures;
pub mod gate;
pub mod grpc;
pub mod keys;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod peer;
pub mod state;
pub mod store;

pub use state::State;
