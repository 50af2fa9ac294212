//! Keeps the node attested: the only writer of the node's identity.
//!
//! One task. It attests when there is no SVID, renews at half of its life, attests again when the CA says the
//! standing is gone, and takes the identity away when the SVID ends. While an attempt fails, the old SVID serves
//! on until its end. Never decides whether the node is genuine: the CA does.

mod attest;
mod backoff;
mod error;
mod held;
mod metrics;
mod saved;
mod standing;
mod task;
mod trust;

pub use error::EnrolError;
pub use metrics::EnrolMetrics;
pub use task::{Enroller, Parts};
