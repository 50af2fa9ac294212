//! TPM 2.0 evidence: EK certificate, activation, Quote and Certify.
//!
//! Links no TPM library and never trusts a byte it has not bounded. [`examine_payload`] judges what comes
//! before the challenge, [`verify_response`] what comes after it; neither knows of stored nodes, that is
//! `crate::admit`. The attestor uses [`templates`] and [`names`] only.

pub mod applicant;
pub mod attest;
pub mod constants;
pub mod ek_certificate;
pub mod names;
pub mod public;
pub mod response;
pub mod signature;
pub mod templates;
pub mod trust;
mod wire;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use applicant::{Applicant, Device, claimed_ek, examine_payload};
pub use response::{Channel, OpenChallenge, Verified, verify_response};
pub use trust::{Allowed, Anchor, Enrol, Manufacturer, Trust};
pub use wire::WireError;

/// The node's opening, as proto `chancery.attest.tpm.v1.Payload`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Payload {
    /// Version of the exchange.
    pub version: u32,
    /// DER; empty where the TPM has none.
    pub ek_certificate: Vec<u8>,
    /// DER SubjectPublicKeyInfo; only without a certificate.
    pub ek_public: Vec<u8>,
    /// DER, hints only.
    pub ek_intermediates: Vec<Vec<u8>>,
    /// TPMT_PUBLIC of the attestation key.
    pub ak_public: Vec<u8>,
    /// TPMT_PUBLIC of the node key.
    pub node_public: Vec<u8>,
    /// Asks for activation although the AK may be known.
    pub activate: bool,
    /// A measured-boot log can be sent.
    pub has_log: bool,
}

/// The node's answer, as proto `chancery.attest.tpm.v1.Response`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// HMAC-SHA256 under the activated secret; empty where none was sent.
    pub proof: Vec<u8>,
    /// Over the PCRs asked for.
    pub quote: Signed,
    /// One digest for each PCR asked for, in ascending order.
    pub pcr_values: Vec<Vec<u8>>,
    /// Of the node key.
    pub certify: Signed,
    /// TCG event log; empty where none is sent.
    pub event_log: Vec<u8>,
}

/// An attestation and its signature.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Signed {
    /// TPMS_ATTEST, exactly the bytes that were signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}
