//! The doors for processes on this machine: the SPIFFE Workload API, and the operator's socket.
//!
//! Everything here begins with the kernel's word about the caller and ends with one more look whether it still
//! lives. gRPC statuses are made here and nowhere else. Called by `run`.

mod admin;
mod agent;
mod bundles;
mod count;
mod door;
mod explain;
mod feed;
mod header;
mod health;
mod hints;
mod jwt;
mod outage;
mod refusal;
mod serve;
mod service;
mod tokens;
mod validate;
mod x509;

pub use door::{Door, Verifiers};
pub use refusal::Refusal;
pub use serve::{DoorError, Doors, serve};
