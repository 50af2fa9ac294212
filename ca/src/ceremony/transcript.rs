//! What a ceremony did: enough for somebody else to check it, and no secret.

use std::path::Path;

use chancery_sdk::time::UnixTime;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CeremonyError, Input, Made, Run, config::Ceremony};
use crate::{authority::SignError, moment::rfc3339};

/// Form of the transcript.
const VERSION: u32 = 1;

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
            "certificate": described(&made.certificate)?,
            "key_file": made.key.as_ref().map(|(path, _)| path.display().to_string()),
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
