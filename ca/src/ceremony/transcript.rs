//! What a ceremony did: enough for somebody else to check it, and no secret.

use std::path::Path;

use chancery_sdk::time::UnixTime;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use x509_parser::{
    num_bigint::BigUint,
    prelude::{FromDer, X509Certificate},
};

use super::{
    CeremonyError, Document, Input, Made, Run,
    config::Ceremony,
    key::{Home, Used},
};
use crate::{
    authority::{
        SignError,
        subordinate::crl::{Crl, Revoked},
    },
    moment::rfc3339,
};

/// Form of the transcript.
const VERSION: u32 = 2;

/// What a ceremony did.
#[derive(Clone, Debug)]
pub struct Transcript(Value);

impl Transcript {
    pub(super) fn of(
        ceremony: &Ceremony,
        config: Input,
        made: &Made,
        run: Run,
        now: UnixTime,
    ) -> Result<Self, CeremonyError> {
        let program = std::env::current_exe().and_then(std::fs::read).map_err(CeremonyError::Program)?;
        let inputs = std::iter::once(&config).chain(&made.inputs);
        let inputs: Vec<_> = inputs.map(|input| named(&input.path, &input.sha256)).collect();
        Ok(Self(json!({
            "transcript_version": VERSION,
            "kind": ceremony.kind.name(),
            "dry_run": run == Run::Dry,
            "at": rfc3339(now),
            "trust_domain": ceremony.trust_domain.to_string(),
            "program": { "version": env!("CARGO_PKG_VERSION"), "sha256": sha256(&program) },
            "inputs": inputs,
            "certificate": match &made.document {
                Document::Certificate(der) => described(der)?,
                Document::Crl(..) => Value::Null,
            },
            "crl": match &made.document {
                Document::Certificate(_) => Value::Null,
                Document::Crl(der, crl) => listed(der, crl),
            },
            "key_file": made.key.as_ref().and_then(|key| match &key.home {
                Home::File(path, _) => Some(path.display().to_string()),
                Home::Token(..) => None,
            }),
            "token": made.used.as_ref().map(token),
            "outputs": [],
        })))
    }

    pub(super) fn wrote(&mut self, path: &Path, content: &[u8]) {
        if let Some(outputs) = self.0["outputs"].as_array_mut() {
            outputs.push(named(path, &sha256(content)));
        }
    }

    /// Indented JSON, with a newline at its end.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

fn named(path: &Path, sha256: &str) -> Value {
    json!({ "path": path.display().to_string(), "sha256": sha256 })
}

/// The token that signed, as it says it is.
fn token(used: &Used) -> Value {
    json!({
        "label": used.token.label,
        "manufacturer": used.token.manufacturer,
        "model": used.token.model,
        "serial": used.token.serial,
        "firmware": used.token.firmware,
        "key_label": used.label,
    })
}

/// The CRL, which was read back and was the same.
fn listed(der: &[u8], crl: &Crl) -> Value {
    let row = |(serial, revoked): (&BigUint, &Revoked)| json!({ "serial": serial.to_string(), "date": rfc3339(revoked.at), "reason": revoked.reason.name() });
    json!({
        "sha256": sha256(der),
        "number": crl.number,
        "this_update": rfc3339(crl.this_update),
        "next_update": rfc3339(crl.next_update),
        "revoked": crl.revoked.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The certificate as it reads back.
fn described(der: &[u8]) -> Result<Value, SignError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| SignError::Mismatch("shape"))?;
    let constraints = certificate.basic_constraints().ok().flatten();
    let validity = certificate.validity();
    Ok(json!({
        "sha256": sha256(der),
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "serial": certificate.serial.to_string(),
        "not_before": rfc3339(UnixTime(validity.not_before.timestamp())),
        "not_after": rfc3339(UnixTime(validity.not_after.timestamp())),
        "key_sha256": sha256(certificate.public_key().raw),
        "path_length": constraints.and_then(|c| c.value.path_len_constraint),
    }))
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}
