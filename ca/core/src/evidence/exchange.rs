//! What was said in one attestation, to keep: an auditor can judge it again with keys and roots of their own.
//!
//! It is kept as blobs named by their SHA-256, and the event of the attestation has the digest of the [`Exchange::kept`]
//! document that names them. Nodes say the same in most of their openings, which is then kept once.

use serde_json::json;

use crate::{
    crypto::sha256,
    transcript::{self, Exporters, LABEL_PKCS11, LABEL_TPM},
};

/// Version of the document.
pub const VERSION: u32 = 1;

/// The messages of one attestation, exactly as they were received and sent.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    /// Attestation type.
    pub kind: &'a str,
    /// The opening's payload; of a join token its hex SHA-256, since the token is a secret.
    pub opening: &'a [u8],
    /// CSR, DER.
    pub csr: &'a [u8],
    /// The CA's challenge; empty where there is none.
    pub challenge: &'a [u8],
    /// The node's answer; empty where there is none.
    pub answer: &'a [u8],
}

/// Bytes named by their digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { sha256: sha256(&[&bytes]), bytes }
    }
}

/// What is kept of an attestation; the document is the first of the blobs, and its digest is the evidence's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    document: Blob,
    parts: Vec<Blob>,
}

impl Kept {
    /// Digest of the evidence, as the event has it.
    pub fn digest(&self) -> [u8; 32] {
        self.document.sha256
    }

    /// The document and the messages that it names.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.document).chain(&self.parts)
    }
}

impl Exchange<'_> {
    /// The document, in canonical JSON, and the messages.
    ///
    /// `bases` are what the proofs are bound to (see [`transcript::base`]): the keying material of the connection goes into
    /// them and is not kept. `None` without a channel: a join token is bound to nothing.
    pub fn kept(&self, trust_domain: &str, exporters: Option<&Exporters>) -> Kept {
        let parts = [self.opening, self.csr, self.challenge, self.answer].map(|bytes| Blob::new(bytes.to_vec()));
        let name = |place: usize| match parts.get(place) {
            Some(blob) if !blob.bytes.is_empty() => hex::encode(blob.sha256),
            _ => String::new(),
        };
        let t2 = transcript::t2(&transcript::t1(self.kind, self.opening, self.csr), self.challenge);
        let base = |label, exporter| hex::encode(transcript::base(label, trust_domain, &t2, exporter));
        let bases = exporters.map_or_else(
            || json!({}),
            |x| json!({ "pkcs11": base(LABEL_PKCS11, &x.pkcs11), "tpm": base(LABEL_TPM, &x.tpm) }),
        );
        let document = json!({
            "answer": name(3),
            "bases": bases,
            "challenge": name(2),
            "csr": name(1),
            "opening": name(0),
            "trust_domain": trust_domain,
            "type": self.kind,
            "version": VERSION,
        });
        let parts = parts.into_iter().filter(|blob| !blob.bytes.is_empty()).collect();
        Kept { document: Blob::new(document.to_string().into_bytes()), parts }
    }
}

/// The messages that a document names: what each is, and its digest.
///
/// # Errors
/// What is wrong with the document.
pub fn parts(document: &[u8]) -> Result<Vec<(&'static str, [u8; 32])>, String> {
    let json: serde_json::Value = serde_json::from_slice(document).map_err(|e| format!("no document: {e}"))?;
    if json.get("version").and_then(serde_json::Value::as_u64) != Some(VERSION.into()) {
        return Err(format!("not of version {VERSION}"));
    }
    let mut parts = Vec::new();
    for name in ["opening", "csr", "challenge", "answer"] {
        let digest = json.get(name).and_then(serde_json::Value::as_str).ok_or_else(|| format!("{name} is missing"))?;
        if !digest.is_empty() {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(digest, &mut sha256).map_err(|e| format!("{name}: {e}"))?;
            parts.push((name, sha256));
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Exporters = Exporters { tpm: [1; 32], pkcs11: [2; 32] };

    fn exchange() -> Exchange<'static> {
        Exchange { kind: "tpm", opening: b"opening", csr: b"csr", challenge: b"challenge", answer: b"answer" }
    }

    #[test]
    fn each_message_is_named_by_its_digest_in_a_document_that_is_named_by_its_own() {
        let kept = exchange().kept("example.org", Some(&X));
        let blobs: Vec<&Blob> = kept.blobs().collect();
        assert!(blobs.iter().all(|blob| blob.sha256 == sha256(&[&blob.bytes])));
        assert_eq!(blobs[0].sha256, kept.digest());
        let named = parts(&blobs[0].bytes).unwrap();
        assert_eq!(named.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["opening", "csr", "challenge", "answer"]);
        assert_eq!(
            named.iter().map(|(_, at)| *at).collect::<Vec<_>>(),
            blobs[1..].iter().map(|b| b.sha256).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_bases_are_those_that_the_proofs_were_made_for_and_the_keying_material_is_not_kept() {
        let kept = exchange().kept("example.org", Some(&X));
        let text = String::from_utf8(kept.blobs().next().unwrap().bytes.clone()).unwrap();
        let t2 = transcript::t2(&transcript::t1("tpm", b"opening", b"csr"), b"challenge");
        assert!(text.contains(&hex::encode(transcript::base(LABEL_TPM, "example.org", &t2, &X.tpm))), "{text}");
        assert!(!text.contains(&hex::encode(X.tpm)) && !text.contains(&hex::encode(X.pkcs11)), "{text}");
    }

    #[test]
    fn whatever_is_changed_changes_the_digest() {
        let digest = exchange().kept("example.org", Some(&X)).digest();
        let others = [
            Exchange { kind: "pkcs11", ..exchange() },
            Exchange { opening: b"Opening", ..exchange() },
            Exchange { csr: b"Csr", ..exchange() },
            Exchange { challenge: b"Challenge", ..exchange() },
            Exchange { answer: b"", ..exchange() },
        ];
        for other in others {
            assert_ne!(other.kept("example.org", Some(&X)).digest(), digest, "{}", other.kind);
        }
        assert_ne!(exchange().kept("other.org", Some(&X)).digest(), digest);
        assert_ne!(exchange().kept("example.org", None).digest(), digest);
    }

    #[test]
    fn a_message_that_is_not_there_is_no_part() {
        let token = Exchange { kind: "join_token", challenge: b"", answer: b"", ..exchange() };
        let kept = token.kept("example.org", None);
        assert_eq!(parts(&kept.blobs().next().unwrap().bytes).unwrap().len(), 2);
        assert_eq!(kept.blobs().count(), 3);
    }

    #[test]
    fn a_document_of_another_form_is_refused() {
        for (bad, why) in [
            ("", "no document"),
            ("{}", "not of version 1"),
            (r#"{"version":2}"#, "not of version 1"),
            (r#"{"version":1}"#, "opening is missing"),
            (r#"{"version":1,"opening":"zz"}"#, "opening: "),
            (r#"{"version":1,"opening":"","csr":"00"}"#, "csr: "),
        ] {
            let said = parts(bad.as_bytes()).unwrap_err();
            assert!(said.starts_with(why), "{bad}: {said}");
        }
    }
}
