//! TPM 2.0 evidence: EK certificate, activation, Quote and Certify.
//!
//! Links no TPM library and never trusts a byte it has not bounded. Called by the CA's attestation use
//! case; the attestor uses [`templates`] and [`names`] only.

pub mod constants;
pub mod names;
pub mod templates;
