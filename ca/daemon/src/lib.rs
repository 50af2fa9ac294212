//! What both daemons share: clock, configuration loading, telemetry, shutdown, sockets, metrics.
//!
//! Knows nothing of certificates, stores or TPMs. Called by the CA and the attestor only.

pub mod clock;
pub mod config;
pub mod file;
pub mod hardening;
pub mod http;
pub mod jitter;
pub mod key_type;
pub mod metrics;
pub mod pkcs11;
pub mod public_key;
pub mod shutdown;
pub mod socket;
pub mod span;
pub mod tcp;
pub mod telemetry;
