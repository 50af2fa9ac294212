//! SPIFFE vocabulary and Workload API client.
//!
//! Without features this crate is vocabulary only: IDs, SVIDs, bundles and their verification, with
//! time as an argument and no I/O. The `client` feature adds the Workload API client, the rotating
//! identity source and the rustls configurations; `jwt` adds JWT-SVID verification.
#![warn(missing_docs)]

pub mod bundle;
pub mod id;
mod json;
pub mod jwt;
mod key;
#[cfg(feature = "client")]
pub mod peer;
pub mod time;
#[cfg(feature = "client")]
pub mod tls;
#[cfg(feature = "client")]
pub mod workload;
pub mod x509;
