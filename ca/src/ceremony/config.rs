//! The one file a ceremony is held by, reviewed before: nothing is asked while it runs.

use std::path::{Path, PathBuf};

use chancery_daemon::{config::Span, key_type::KeyType};
use chancery_sdk::id::TrustDomain;
use serde::{Deserialize, Deserializer, de};

use super::CeremonyError;
use crate::authority::subordinate::MAX_PATH_LEN;

/// Longest life of what a ceremony makes.
const MAX_LIFE: Span = Span::secs(40 * 365 * 86_400);
/// Longest common name (RFC 5280, upper bound of X.520).
const MAX_NAME: usize = 64;

/// A ceremony's configuration. Paths are relative to its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// What is made.
    pub kind: Kind,
    /// The realm the CA is for.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// Common name in the subject; for people.
    pub common_name: Option<String>,
    /// Life of the certificate.
    pub life: Span,
    /// CAs that may follow below.
    pub path_length: u8,
    /// Root: its key, which is made.
    pub key: Option<NewKey>,
    /// Intermediate: who signs.
    pub issuer: Option<IssuerFiles>,
    /// Intermediate: for whom.
    pub request: Option<RequestFile>,
    /// Where results go.
    pub output: Output,
}

/// What a ceremony makes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A CA that a root signs, from a request.
    Intermediate,
    /// A CA that signs itself, and its key.
    Root,
}

/// A key that is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// PEM file, 0600; must not exist.
    pub file: PathBuf,
    /// Kind of key.
    #[serde(rename = "type")]
    pub kind: KeyType,
}

/// The CA that signs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerFiles {
    /// PEM file with its certificate.
    pub certificate: PathBuf,
    /// PEM file with its key, 0600.
    pub key: PathBuf,
}

/// The CA that asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFile {
    /// PEM file with a PKCS#10 request.
    pub csr: PathBuf,
    /// SHA-256 the request's key must have, as hex of its SubjectPublicKeyInfo: carried on another way than the file.
    pub key_sha256: Option<String>,
    /// Keys that are never signed, likewise.
    #[serde(default)]
    pub denied: Vec<String>,
}

/// Where results go; none of the files may exist.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// What was done, JSON.
    pub transcript: PathBuf,
}

impl Ceremony {
    /// Parses and checks; `path` is where the text is from.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, CeremonyError> {
        let wrong = |problem| CeremonyError::Config { path: path.into(), problem };
        let mut ceremony: Self = chancery_daemon::config::parse(text).map_err(wrong)?;
        ceremony.problem().map_or(Ok(()), |problem| Err(wrong(problem)))?;
        ceremony.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(ceremony)
    }

    fn problem(&self) -> Option<String> {
        if self.life.as_secs() < 3600 || self.life > MAX_LIFE {
            return Some(format!("life: {} is outside 1h to {MAX_LIFE}", self.life));
        }
        if self.path_length > MAX_PATH_LEN {
            return Some(format!("path_length: {} exceeds {MAX_PATH_LEN}", self.path_length));
        }
        let name = self.common_name.as_deref().unwrap_or("x");
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Some(format!("common_name: use 1 to {MAX_NAME} printable characters"));
        }
        let parts = (self.key.is_some(), self.issuer.is_some(), self.request.is_some());
        match (self.kind, parts) {
            (Kind::Root, (true, false, false)) if self.path_length == 0 => {
                Some("path_length: a root with 0 could sign no CA; use at least 1".into())
            }
            (Kind::Root, (true, false, false)) => None,
            (Kind::Root, _) => Some("kind = \"root\" needs [key], and neither [issuer] nor [request]".into()),
            (Kind::Intermediate, (false, true, true)) => self.fingerprints(),
            (Kind::Intermediate, _) => {
                Some("kind = \"intermediate\" needs [issuer] and [request], and no [key]".into())
            }
        }
    }

    fn fingerprints(&self) -> Option<String> {
        let request = self.request.as_ref()?;
        let hex = |text: &&String| !(text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        let bad = request.denied.iter().chain(&request.key_sha256).find(hex)?;
        Some(format!("request: '{bad}' is not 64 hex digits, the SHA-256 of a SubjectPublicKeyInfo"))
    }

    fn resolve(&mut self, folder: &Path) {
        let files = [&mut self.output.certificate, &mut self.output.transcript];
        let key = self.key.iter_mut().map(|key| &mut key.file);
        let issuer = self.issuer.iter_mut().flat_map(|issuer| [&mut issuer.certificate, &mut issuer.key]);
        let request = self.request.iter_mut().map(|request| &mut request.csr);
        for path in files.into_iter().chain(key).chain(issuer).chain(request) {
            *path = folder.join(&*path);
        }
    }
}

fn trust_domain<'de, D: Deserializer<'de>>(d: D) -> Result<TrustDomain, D::Error> {
    TrustDomain::new(&String::deserialize(d)?).map_err(|e| de::Error::custom(format!("trust_domain: {e}")))
}
