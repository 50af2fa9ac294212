//! Decisions and verification of the Chancery CA.
//!
//! Pure: no I/O, no clock, no randomness, no private keys. Time, nonces and facts come as arguments,
//! so that every rule is a table test and recorded evidence is test data. Called by the CA's use cases;
//! the attestor uses the transcripts, labels, templates and selector matching only.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod admit;
pub mod class;
pub mod crypto;
pub mod csr;
pub mod detect;
pub mod digest;
pub mod entry;
pub mod event;
pub mod eventlog;
pub mod evidence;
pub mod ids;
pub mod instance;
pub mod leaf;
pub mod lifetime;
pub mod log;
pub mod mint;
pub mod node;
pub mod policy;
pub mod reason;
pub mod selector;
pub mod trace;
pub mod transcript;
