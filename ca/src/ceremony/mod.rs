//! The offline ceremony: one reviewed file, one command, no question asked. A root, a CA that a root signs, a root that
//! another root certifies, or a CRL; keys in files or in PKCS#11 tokens.
//!
//! Nothing that exists is overwritten, what is made is read back and checked before it is written, and a transcript
//! says what was done with which inputs by which program. Needs no running CA and no network.

mod config;
mod key;
mod revoke;
mod transcript;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chancery_core::csr::{Csr, CsrError};
use chancery_daemon::{key_type::KeyType, public_key::PublicKey};
use chancery_sdk::{time::UnixTime, x509};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use thiserror::Error;

use self::{
    config::{Ceremony, KeyTable, Kind, RequestFile, SubjectFile, Task},
    key::{Home, MadeKey, Used},
    transcript::sha256,
};
use crate::{
    authority::{
        SignError,
        subordinate::{self, Draft, Parent, crl::Crl, cross},
    },
    keys::{KeyError, Signer, file, file::FileError},
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
    /// What a CRL would say, or the one before it.
    #[error("crl: {0}")]
    Crl(String),
    /// The request.
    #[error("{path}: {source}", path = path.display())]
    Csr {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CsrError,
    },
    /// A key that is never signed.
    #[error("the key {0} is on the list of denied keys")]
    Denied(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key to be signed is another than the configuration says.
    #[error("the key is {found}, the configuration expects {expected}: do not sign it")]
    OtherKey {
        /// SHA-256 of the SubjectPublicKeyInfo.
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
    /// More than one certificate.
    #[error("{path}: exactly one certificate is expected here", path = .0.display())]
    Several(PathBuf),
    /// A key that should be gone.
    #[error(
        "the key labelled {label} stays in the token, and nothing was made of it: {why}; destroy it by the token's own tools"
    )]
    Stays {
        /// Its label.
        label: String,
        /// Why.
        why: String,
    },
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
    document: Document,
    /// Of a root.
    key: Option<MadeKey>,
    /// The token that signed.
    used: Option<Used>,
    inputs: Vec<Input>,
}

/// What a ceremony is for.
enum Document {
    Certificate(CertificateDer<'static>),
    /// DER, and what it says.
    Crl(Vec<u8>, Crl),
}

/// Holds the ceremony that `path` describes; what was done.
///
/// # Errors
/// [`CeremonyError`].
pub fn hold(path: &Path, run: Run, now: UnixTime) -> Result<Transcript, CeremonyError> {
    let (ceremony, config) = read(path)?;
    if let Some(taken) = ceremony.output_paths().into_iter().find(|output| output.exists()) {
        return Err(FileError::Exists(taken.clone()).into());
    }
    let made = match ceremony.task().map_err(|p| ceremony.fault(p))? {
        Task::Crl(issuer, table) => revoke::crl(&ceremony, issuer, table, now)?,
        Task::CrossSign(issuer, subject) => cross_signed(&ceremony, issuer, subject, now)?,
        Task::Intermediate(issuer, request) => intermediate(&ceremony, issuer, request, now)?,
        Task::Root(key, kind) => root(&ceremony, key, kind, run, now)?,
    };
    let mut transcript = match Transcript::of(&ceremony, config, &made, run, now) {
        Ok(transcript) => transcript,
        Err(problem) => return Err(undone(&made.key, problem)),
    };
    if run == Run::Dry {
        made.key.iter().try_for_each(MadeKey::destroy)?;
        return Ok(transcript);
    }
    if let Err(problem) = write(&ceremony, &made, &mut transcript) {
        return Err(undone(&made.key, problem));
    }
    // Last, so that whoever sees a transcript finds all of it.
    file::write_new(&ceremony.output.transcript, transcript.to_json().as_bytes(), 0o644)?;
    Ok(transcript)
}

/// Environment variables that the file at `path` says hold PINs.
///
/// # Errors
/// [`CeremonyError`].
pub fn secrets(path: &Path) -> Result<Vec<String>, CeremonyError> {
    let (ceremony, _) = read(path)?;
    Ok(ceremony.key.iter().chain(&ceremony.issuer).filter_map(|table| table.pin_env.clone()).collect())
}

fn read(path: &Path) -> Result<(Ceremony, Input), CeremonyError> {
    let text = file::bytes(path)?;
    let not_text = |_| CeremonyError::Config { path: path.into(), problem: "not a text file".into() };
    let ceremony = Ceremony::parse(std::str::from_utf8(&text).map_err(not_text)?, path)?;
    Ok((ceremony, Input { path: path.into(), sha256: sha256(&text) }))
}

/// Leaves no key behind that nothing was made of.
fn undone(key: &Option<MadeKey>, problem: CeremonyError) -> CeremonyError {
    match key.as_ref().map_or(Ok(()), MadeKey::destroy) {
        Ok(()) => problem,
        Err(CeremonyError::Stays { label, why }) => CeremonyError::Stays { label, why: format!("{problem}; {why}") },
        Err(other) => other,
    }
}

impl Ceremony {
    fn output_paths(&self) -> Vec<&PathBuf> {
        let results = self.output.certificate.iter().chain(&self.output.crl);
        let key = self.key.iter().filter_map(|key| key.file.as_ref());
        key.chain(results).chain([&self.output.transcript]).collect()
    }

    fn draft<'a>(&'a self, spki: &'a [u8], (not_before, not_after): (UnixTime, UnixTime)) -> Draft<'a> {
        let common_name = self.common_name.as_deref();
        Draft { domain: &self.trust_domain, spki, common_name, path_len: self.path_length, not_before, not_after }
    }

    fn fault(&self, problem: String) -> CeremonyError {
        CeremonyError::Config { path: self.path.clone(), problem }
    }
}

fn root(ceremony: &Ceremony, table: &KeyTable, kind: KeyType, run: Run, now: UnixTime) -> Result<Made, CeremonyError> {
    let new = key::make(&table.made().map_err(|p| ceremony.fault(p))?, kind, run)?;
    let validity = (now, now.plus(ceremony.life.as_secs()));
    let certify = || {
        let certificate = subordinate::root(&ceremony.draft(new.key.spki(), validity), new.key.as_ref())?;
        // Read as its user will: a root that cannot sign a CA is found now.
        Parent::new(&certificate, Arc::clone(&new.key))?;
        Ok::<_, SignError>(certificate)
    };
    match certify() {
        Ok(certificate) => {
            let (document, used) = (Document::Certificate(certificate), new.used().cloned());
            Ok(Made { document, key: Some(new), used, inputs: Vec::new() })
        }
        Err(problem) => Err(undone(&Some(new), problem.into())),
    }
}

/// Who signs, and what was read for it.
struct Issuer {
    certificate: CertificateDer<'static>,
    key: Arc<dyn Signer>,
    used: Option<Used>,
    input: Input,
}

fn issuer(ceremony: &Ceremony, table: &KeyTable) -> Result<Issuer, CeremonyError> {
    let missing = || ceremony.fault("issuer.certificate is missing".into());
    let (certificate, input) = one_certificate(table.certificate.as_ref().ok_or_else(missing)?)?;
    let spki = x509::spki_of(&certificate).map_err(|_| SignError::Mismatch("shape"))?;
    let (key, used) = key::open(&table.signs().map_err(|p| ceremony.fault(p))?, &spki)?;
    Ok(Issuer { certificate, key, used, input })
}

/// The one certificate of a file.
fn one_certificate(path: &Path) -> Result<(CertificateDer<'static>, Input), CeremonyError> {
    let mut certificates = file::certificates(path)?;
    let one = certificates.pop().filter(|_| certificates.is_empty());
    let one = one.ok_or_else(|| CeremonyError::Several(path.into()))?;
    Ok((one, input(path)?))
}

fn input(path: &Path) -> Result<Input, FileError> {
    Ok(Input { path: path.into(), sha256: sha256(&file::bytes(path)?) })
}

/// Validity of the configured life, which the issuer must honour whole.
fn whole_life(ceremony: &Ceremony, parent: &Parent, now: UnixTime) -> Result<(UnixTime, UnixTime), SignError> {
    let asked = now.plus(ceremony.life.as_secs());
    let (not_before, not_after) = parent.validity(now, ceremony.life.as_secs());
    if not_after < asked { Err(SignError::Issuer { asked, end: not_after }) } else { Ok((not_before, not_after)) }
}

fn intermediate(
    ceremony: &Ceremony,
    table: &KeyTable,
    request: &RequestFile,
    now: UnixTime,
) -> Result<Made, CeremonyError> {
    let issuer = issuer(ceremony, table)?;
    let parent = Parent::new(&issuer.certificate, issuer.key)?;
    let csr = asked(request)?;
    let validity = whole_life(ceremony, &parent, now)?;
    let document = Document::Certificate(parent.sign(&ceremony.draft(csr.spki_der(), validity))?);
    Ok(Made { document, key: None, used: issuer.used, inputs: vec![issuer.input, input(&request.csr)?] })
}

fn cross_signed(
    ceremony: &Ceremony,
    table: &KeyTable,
    subject: &SubjectFile,
    now: UnixTime,
) -> Result<Made, CeremonyError> {
    let issuer = issuer(ceremony, table)?;
    let parent = Parent::new(&issuer.certificate, issuer.key)?;
    let (certificate, input) = one_certificate(&subject.certificate)?;
    let root = cross::Root::read(&certificate, &ceremony.trust_domain)?;
    judged_key(&root.spki, &subject.denied, &subject.key_sha256)?;
    let (not_before, not_after) = whole_life(ceremony, &parent, now)?;
    let validity = (not_before.max(root.not_before), not_after);
    let document = Document::Certificate(parent.cross_sign(&ceremony.draft(&root.spki, validity), &root)?);
    Ok(Made { document, key: None, used: issuer.used, inputs: vec![issuer.input, input] })
}

/// The request, if its holder signed it and its key is one to be signed.
fn asked(request: &RequestFile) -> Result<Csr, CeremonyError> {
    let path = &request.csr;
    let malformed = |source| CeremonyError::Csr { path: path.clone(), source };
    let pem = file::bytes(path)?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| malformed(CsrError::Malformed))?;
    let csr = Csr::parse(&der).map_err(malformed)?;
    judged_key(csr.spki_der(), &request.denied, &request.key_sha256)?;
    Ok(csr)
}

/// Whether a key is one to be signed.
fn judged_key(spki: &[u8], denied: &[String], expected: &Option<String>) -> Result<(), CeremonyError> {
    let found = sha256(spki);
    if PublicKey::from_spki(spki).is_none() {
        return Err(CeremonyError::WeakKey);
    }
    if denied.iter().any(|denied| denied.eq_ignore_ascii_case(&found)) {
        return Err(CeremonyError::Denied(found));
    }
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
            Err(CeremonyError::OtherKey { found, expected: expected.clone() })
        }
        _ => Ok(()),
    }
}

/// The key first, if it goes into a file, then what was made.
fn write(ceremony: &Ceremony, made: &Made, transcript: &mut Transcript) -> Result<(), CeremonyError> {
    if let Some(MadeKey { home: Home::File(path, pkcs8), .. }) = &made.key {
        let pem = zeroize::Zeroizing::new(file::pem("PRIVATE KEY", pkcs8));
        file::write_new(path, pem.as_bytes(), 0o600)?;
    }
    let pem = match &made.document {
        Document::Certificate(der) => file::pem("CERTIFICATE", der),
        Document::Crl(der, _) => file::pem("X509 CRL", der),
    };
    for path in ceremony.output.certificate.iter().chain(&ceremony.output.crl) {
        file::write_new(path, pem.as_bytes(), 0o644)?;
        transcript.wrote(path, pem.as_bytes());
    }
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Crl => "crl",
            Self::CrossSign => "cross-sign",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        }
    }
}

#[cfg(test)]
mod tests;
