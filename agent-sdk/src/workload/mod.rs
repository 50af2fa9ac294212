//! Client of the SPIFFE Workload API.
//!
//! [`Endpoint`] says where it is, [`WorkloadClient`] asks it, [`Watch`] follows its streams and
//! reconnects by the rules of the standard. Most programs want [`Source`](crate::Source), which
//! stands on these. No TLS and no login: the kernel tells the attestor who is calling.
//!
//! Source: SPIFFE Workload Endpoint and Workload API; conformance WE-*, WA-*. The WIT profile
//! (incubating, optional by WA-04) is not offered.

mod backoff;
mod client;
mod dial;
mod endpoint;
mod error;
mod jwt;
mod revocations;
mod update;
mod watch;

pub use client::WorkloadClient;
pub use endpoint::{ENDPOINT_VARIABLE, Endpoint, EndpointError};
pub use error::{ClientError, UpdateError};
pub use jwt::{JwtBundles, JwtToken, ValidatedJwt};
pub use revocations::{RevocationsUpdate, hold, revocation, write_hold, write_revocation};
pub use update::{IssuedSvid, X509Bundles, X509Context};
pub use watch::{Event, Watch};
