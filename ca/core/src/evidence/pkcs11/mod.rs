//! PKCS#11 evidence: an attestation key, who vouches for it, and its signature over this exchange.
//!
//! Three levels that never blur: `pop-only` (it can use this key), `device-cert` (an enrolment CA vouches for
//! the key), `attested:<vendor>` (the device's own statement). What a node says of its token's attributes is
//! never evidence. [`examine_payload`] judges what comes before the challenge, [`verify_response`] what comes
//! after it; inside TPM evidence [`examine_section`] and [`verify_section`] do. Stored nodes are `crate::admit`'s.

pub mod applicant;
pub mod certificate;
pub mod crl;
pub mod key;
pub mod response;
pub mod trust;
pub mod vendor;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use applicant::{Applicant, claimed_key, examine_payload, examine_section};
pub use crl::{CrlError, Crls};
pub use key::AttestationKey;
pub use response::{Channel, OpenChallenge, Verified, verify_response, verify_section};
pub use trust::{EnrolmentCa, EnrolmentCaError, Trust};

/// Selector type of everything proven with a token.
pub const SELECTOR_TYPE: &str = "pkcs11";

/// The node's opening, as proto `chancery.attest.pkcs11.v1.Payload`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Payload {
    /// Version of the exchange.
    pub version: u32,
    /// DER SubjectPublicKeyInfo of the attestation key.
    pub key: Vec<u8>,
    /// DER, leaf first; empty where no operator vouches.
    pub certificates: Vec<Vec<u8>>,
    /// What the maker says.
    pub vendor: Vec<VendorEvidence>,
}

/// What the maker of a device says of a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VendorEvidence {
    /// Which form it has.
    pub kind: String,
    /// In that form.
    pub evidence: Vec<u8>,
}

/// The node's answer, as proto `chancery.attest.pkcs11.v1.Response`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// Over `transcript::base` as the message.
    pub signature: Vec<u8>,
}
