//! The offline ceremony: one reviewed file, one command, no question asked; a root, or a CA that a root signs.
//!
//! Nothing that exists is overwritten, what is made is read back and checked before it is written, and a transcript
//! says what was done with which inputs by which program. Needs no running CA and no network.

mod config;
mod transcript;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chancery_core::csr::{Csr, CsrError};
use chancery_daemon::public_key::PublicKey;
use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use thiserror::Error;
use zeroize::Zeroizing;

use self::{
    config::{Ceremony, IssuerFiles, Kind, NewKey, RequestFile},
    transcript::sha256,
};
use crate::{
    authority::{
        SignError,
        subordinate::{self, Draft, Parent},
    },
    keys::{KeyError, file, file::FileError},
};

pub use self::transcript::Transcript;

/// Why a ceremony ended without result; nothing was written, unless the message names what was.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// The configuration.
    #[error("{path}: {problem}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with which key.
        problem: String,
    },
    /// The request.
    #[error("{path}: {source}", path = path.display())]
    Csr {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CsrError,
    },
    /// A key that is never signed.
    #[error("the request's key {0} is on the list of denied keys")]
    Denied(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request is for another key than the configuration says.
    #[error("the request's key is {found}, the configuration expects {expected}: do not sign it")]
    OtherKey {
        /// SHA-256 of the request's SubjectPublicKeyInfo.
        found: String,
        /// As configured.
        expected: String,
    },
    /// This program's own file.
    #[error("cannot read this program's own file to hash it: {0}")]
    Program(io::Error),
    /// The certificate.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A key of a kind that signs nothing here.
    #[error("the request's key must be P-256, P-384 or RSA of 2048, 3072 or 4096 bits with exponent 65537")]
    WeakKey,
}

/// Whether results are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run {
    /// Everything but the writing; a root's key is made and thrown away.
    Dry,
    /// For good.
    Real,
}

/// Something read, for the transcript.
struct Input {
    path: PathBuf,
    sha256: String,
}

/// What was made and not written yet.
struct Made {
    certificate: CertificateDer<'static>,
    key: Option<(PathBuf, Zeroizing<Vec<u8>>)>,
    inputs: Vec<Input>,
}

/// Holds the ceremony that `path` describes; what was done.
///
/// # Errors
/// [`CeremonyError`].
pub fn hold(path: &Path, run: Run, now: UnixTime) -> Result<Transcript, CeremonyError> {
    let text = file::bytes(path)?;
    let not_text = || CeremonyError::Config { path: path.into(), problem: "not a text file".into() };
    let ceremony = Ceremony::parse(std::str::from_utf8(&text).map_err(|_| not_text())?, path)?;
    let outputs = ceremony.output_paths();
    if let Some(taken) = outputs.iter().find(|output| output.exists()) {
        return Err(FileError::Exists((*taken).clone()).into());
    }
    let made = match (&ceremony.key, &ceremony.issuer, &ceremony.request) {
        (Some(key), _, _) => root(&ceremony, key, now)?,
        (None, Some(issuer), Some(request)) => intermediate(&ceremony, issuer, request, now)?,
        (None, _, _) => {
            return Err(CeremonyError::Config { path: path.into(), problem: "kind needs its parts".into() });
        }
    };
    let config = Input { path: path.into(), sha256: sha256(&text) };
    let mut transcript = Transcript::of(&ceremony, config, &made, run, now)?;
    if run == Run::Real {
        write(&ceremony, &made, &mut transcript)?;
    }
    Ok(transcript)
}

impl Ceremony {
    fn output_paths(&self) -> Vec<&PathBuf> {
        let fixed = [&self.output.certificate, &self.output.transcript];
        self.key.iter().map(|key| &key.file).chain(fixed).collect()
    }

    fn draft<'a>(&'a self, spki: &'a [u8], (not_before, not_after): (UnixTime, UnixTime)) -> Draft<'a> {
        let common_name = self.common_name.as_deref();
        Draft { domain: &self.trust_domain, spki, common_name, path_len: Some(self.path_length), not_before, not_after }
    }
}

fn root(ceremony: &Ceremony, new: &NewKey, now: UnixTime) -> Result<Made, CeremonyError> {
    let (key, pkcs8) = file::fresh(new.kind)?;
    let validity = (now, now.plus(ceremony.life.as_secs()));
    let certificate = subordinate::root(&ceremony.draft(key.spki(), validity), key.as_ref())?;
    // Read as its user will: a root that cannot sign a CA is found now.
    Parent::new(&certificate, Arc::clone(&key))?;
    Ok(Made { certificate, key: Some((new.file.clone(), pkcs8)), inputs: Vec::new() })
}

fn intermediate(
    ceremony: &Ceremony,
    issuer: &IssuerFiles,
    request: &RequestFile,
    now: UnixTime,
) -> Result<Made, CeremonyError> {
    let signer = file::signer(&issuer.key)?;
    let certificates = file::certificates(&issuer.certificate)?;
    let [certificate] = certificates.as_slice() else {
        return Err(FileError::NoCertificate(issuer.certificate.clone()).into());
    };
    let parent = Parent::new(certificate, signer)?;
    let csr = asked(request)?;
    let (not_before, not_after) = parent.validity(now, ceremony.life.as_secs());
    if not_after < now.plus(ceremony.life.as_secs()) {
        let asked = now.plus(ceremony.life.as_secs());
        return Err(SignError::Issuer { asked, end: not_after }.into());
    }
    let made = parent.sign(&ceremony.draft(csr.spki_der(), (not_before, not_after)))?;
    let inputs = [&issuer.certificate, &request.csr].into_iter();
    let inputs = inputs.map(|path| Ok(Input { path: path.clone(), sha256: sha256(&file::bytes(path)?) }));
    Ok(Made { certificate: made, key: None, inputs: inputs.collect::<Result<_, FileError>>()? })
}

/// The request, if its holder signed it and its key is one to be signed.
fn asked(request: &RequestFile) -> Result<Csr, CeremonyError> {
    let path = &request.csr;
    let malformed = |source| CeremonyError::Csr { path: path.clone(), source };
    let pem = file::bytes(path)?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| malformed(CsrError::Malformed))?;
    let csr = Csr::parse(&der).map_err(malformed)?;
    let found = hex::encode(csr.spki_sha256());
    if PublicKey::from_spki(csr.spki_der()).is_none() {
        return Err(CeremonyError::WeakKey);
    }
    if request.denied.iter().any(|denied| denied.eq_ignore_ascii_case(&found)) {
        return Err(CeremonyError::Denied(found));
    }
    match &request.key_sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
            Err(CeremonyError::OtherKey { found, expected: expected.clone() })
        }
        _ => Ok(csr),
    }
}

/// Key first, transcript last: whoever sees a transcript finds all of it.
fn write(ceremony: &Ceremony, made: &Made, transcript: &mut Transcript) -> Result<(), CeremonyError> {
    if let Some((path, pkcs8)) = &made.key {
        let pem = Zeroizing::new(file::pem("PRIVATE KEY", pkcs8));
        file::write_new(path, pem.as_bytes(), 0o600)?;
    }
    let pem = file::pem("CERTIFICATE", &made.certificate);
    file::write_new(&ceremony.output.certificate, pem.as_bytes(), 0o644)?;
    transcript.wrote(&ceremony.output.certificate, pem.as_bytes());
    file::write_new(&ceremony.output.transcript, transcript.to_json().as_bytes(), 0o644)?;
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        }
    }
}

#[cfg(test)]
mod tests;
