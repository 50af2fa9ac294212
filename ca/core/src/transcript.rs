//! Transcripts: what both sides hash, so that evidence holds for one exchange on one connection only.
//!
//! Written once, for the CA and the attestor. `len` is u32 big-endian, H is SHA-256; messages are hashed
//! exactly as received, never re-encoded. Source: ARCHITECTURE, "On the wire".

use crate::crypto::sha256;

/// Domain label of TPM evidence inside [`base`].
pub const LABEL_TPM: &str = "chancery-attest-tpm-v1";
/// Domain label of PKCS#11 evidence inside [`base`].
pub const LABEL_PKCS11: &str = "chancery-attest-pkcs11-v1";
/// TLS exporter label of TPM attestation; no context, [`EXPORTER_BYTES`] bytes. RFC 5705, section 4.
pub const EXPORTER_LABEL_TPM: &str = "EXPERIMENTAL-chancery-attest-tpm-v1";
/// TLS exporter label of PKCS#11 attestation; no context, [`EXPORTER_BYTES`] bytes.
pub const EXPORTER_LABEL_PKCS11: &str = "EXPERIMENTAL-chancery-attest-pkcs11-v1";
/// Length of X, the keying material exported from the TLS connection.
pub const EXPORTER_BYTES: usize = 32;

/// X of one TLS connection, for each attestor. Both ends make it when the handshake is done.
///
/// No `Debug`: whoever reads a log must not learn it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Exporters {
    /// With [`EXPORTER_LABEL_TPM`].
    pub tpm: [u8; EXPORTER_BYTES],
    /// With [`EXPORTER_LABEL_PKCS11`].
    pub pkcs11: [u8; EXPORTER_BYTES],
}

impl Exporters {
    /// Exports under both labels; `export` fills 32 bytes for the label it is given, without a context.
    ///
    /// # Errors
    /// Whatever `export` fails with: without keying material nothing is attested.
    pub fn of<E>(
        mut export: impl FnMut([u8; EXPORTER_BYTES], &[u8]) -> Result<[u8; EXPORTER_BYTES], E>,
    ) -> Result<Self, E> {
        let tpm = export([0; EXPORTER_BYTES], EXPORTER_LABEL_TPM.as_bytes())?;
        let pkcs11 = export([0; EXPORTER_BYTES], EXPORTER_LABEL_PKCS11.as_bytes())?;
        Ok(Self { tpm, pkcs11 })
    }
}

/// T1 = H(len‖type ‖ len‖payload ‖ len‖csr): the node's opening, `csr` in DER.
#[must_use]
pub fn t1(attestation_type: &str, payload: &[u8], csr: &[u8]) -> [u8; 32] {
    let (a, b, c) = (len(attestation_type.as_bytes()), len(payload), len(csr));
    sha256(&[a.as_slice(), attestation_type.as_bytes(), &b, payload, &c, csr])
}

/// T2 = H(T1 ‖ len‖challenge): the opening and the CA's challenge, which carries the nonce.
#[must_use]
pub fn t2(t1: &[u8; 32], challenge: &[u8]) -> [u8; 32] {
    sha256(&[t1.as_slice(), &len(challenge), challenge])
}

/// base = H(len‖label ‖ len‖trust domain ‖ T2 ‖ X): what every proof is bound to.
///
/// `trust_domain` is the bare name (`prod.example.org`); `exporter` is X of this very connection.
#[must_use]
pub fn base(label: &str, trust_domain: &str, t2: &[u8; 32], exporter: &[u8; EXPORTER_BYTES]) -> [u8; 32] {
    let (a, b) = (len(label.as_bytes()), len(trust_domain.as_bytes()));
    sha256(&[a.as_slice(), label.as_bytes(), &b, trust_domain.as_bytes(), t2, exporter])
}

/// Qualifying data of the Quote: H("quote" ‖ base).
#[must_use]
pub fn quote_qualifier(base: &[u8; 32]) -> [u8; 32] {
    sha256(&[b"quote".as_slice(), base])
}

/// Qualifying data of the Certify: H("certify" ‖ base).
#[must_use]
pub fn certify_qualifier(base: &[u8; 32]) -> [u8; 32] {
    sha256(&[b"certify".as_slice(), base])
}

/// The message whose HMAC-SHA256 under the activated secret is the proof: "activation" ‖ base.
#[must_use]
pub fn activation_message(base: &[u8; 32]) -> Vec<u8> {
    [b"activation".as_slice(), base].concat()
}

/// Lengths beyond u32 do not occur: messages are bounded to megabytes before they come here.
fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_is_the_hash_of_length_prefixed_type_payload_and_csr() {
        let flat = b"\0\0\0\x03tpm\0\0\0\x02pp\0\0\0\x01c";
        assert_eq!(t1("tpm", b"pp", b"c"), sha256(&[flat]));
    }

    #[test]
    fn moving_a_byte_between_fields_changes_t1() {
        assert_ne!(t1("tpm", b"ab", b"c"), t1("tpm", b"a", b"bc"));
        assert_ne!(t1("tpm", b"a", b""), t1("tp", b"ma", b""));
    }

    #[test]
    fn base_depends_on_label_domain_challenge_and_connection() {
        let t = t2(&[1; 32], b"challenge");
        let all = [
            base(LABEL_TPM, "a.example", &t, &[2; 32]),
            base(LABEL_PKCS11, "a.example", &t, &[2; 32]),
            base(LABEL_TPM, "b.example", &t, &[2; 32]),
            base(LABEL_TPM, "a.example", &t2(&[1; 32], b"Challenge"), &[2; 32]),
            base(LABEL_TPM, "a.example", &t, &[3; 32]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| other != one));
        }
    }

    #[test]
    fn quote_certify_and_activation_have_labels_of_their_own() {
        let base = [7; 32];
        assert_ne!(quote_qualifier(&base), certify_qualifier(&base));
        assert_eq!(activation_message(&base), [b"activation".as_slice(), &base].concat());
    }
}
