//! The one file a ceremony is held by, reviewed before: nothing is asked while it runs.

use std::path::{Path, PathBuf};

use chancery_daemon::{config::Span, key_type::KeyType};
use chancery_sdk::id::TrustDomain;
use serde::{Deserialize, Deserializer, de};

use super::CeremonyError;
use crate::{
    authority::subordinate::{MAX_PATH_LEN, crl},
    keys::token_key::TokenKeyConfig,
    moment,
};

/// Longest life of what a ceremony makes.
const MAX_LIFE: Span = Span::secs(40 * 365 * 86_400);
/// Longest wait for a token: a person who watches waits longer than an agent.
const DEADLINE: Span = Span::secs(60);
/// Longest common name (RFC 5280, upper bound of X.520).
const MAX_NAME: usize = 64;

/// A ceremony's configuration. Paths are relative to its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// Where this was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// What is made.
    pub kind: Kind,
    /// The realm the CA is for.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// Root, intermediate: common name in the subject; for people.
    pub common_name: Option<String>,
    /// Life of the certificate, or until the next CRL.
    pub life: Span,
    /// CAs that may follow below; not for a CRL.
    pub path_length: Option<u8>,
    /// Root: its key, which is made.
    pub key: Option<KeyTable>,
    /// Everything but a root: who signs.
    pub issuer: Option<KeyTable>,
    /// Intermediate: for whom.
    pub request: Option<RequestFile>,
    /// Cross-sign: which root.
    pub subject: Option<SubjectFile>,
    /// CRL: what is taken back.
    pub crl: Option<CrlTable>,
    /// Where results go.
    pub output: Output,
}

/// What a ceremony makes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A list of certificates that a CA takes back.
    Crl,
    /// A root's name and key, certified by another root.
    CrossSign,
    /// A CA that a root signs, from a request.
    Intermediate,
    /// A CA that signs itself, and its key.
    Root,
}

/// A key: in a file, or in a token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyTable {
    /// Issuer: PEM file with its certificate.
    pub certificate: Option<PathBuf>,
    /// Key that is made: PEM file, 0600; must not exist.
    pub file: Option<PathBuf>,
    /// Issuer: PEM file with its key, 0600.
    pub key: Option<PathBuf>,
    /// Key that is made: its kind.
    #[serde(rename = "type")]
    pub kind: Option<KeyType>,
    /// Token: whole path of its module.
    pub module: Option<PathBuf>,
    /// Token: RFC 7512, which one.
    pub uri: Option<String>,
    /// Token: file with the PIN.
    pub pin_file: Option<PathBuf>,
    /// Token: environment variable with the PIN.
    pub pin_env: Option<String>,
    /// Token: the key's label.
    pub label: Option<String>,
}

/// Where a key is.
#[derive(Clone, Debug)]
pub enum Place {
    /// PEM file.
    File(PathBuf),
    /// Under a label in a token.
    Token(TokenKeyConfig),
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

/// The root that is cross-signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectFile {
    /// PEM file with its own certificate.
    pub certificate: PathBuf,
    /// As [`RequestFile::key_sha256`].
    pub key_sha256: Option<String>,
    /// As [`RequestFile::denied`].
    #[serde(default)]
    pub denied: Vec<String>,
}

/// What a CRL says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrlTable {
    /// The CRL before this one, PEM or DER: its entries go on, its number is exceeded.
    pub previous: Option<PathBuf>,
    /// The number of this one; required without `previous`.
    pub number: Option<u64>,
    /// What is taken back from now on.
    #[serde(default)]
    pub revoked: Vec<RevokedRow>,
}

/// A certificate that is taken back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedRow {
    /// Its serial number: decimal, or hexadecimal after `0x`.
    pub serial: String,
    /// Why.
    pub reason: crl::Reason,
    /// Since when, RFC 3339.
    pub date: String,
}

/// Where results go; none of the files may exist.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// The CRL, PEM.
    pub crl: Option<PathBuf>,
    /// What was done, JSON.
    pub transcript: PathBuf,
}

/// A ceremony that has the parts it needs, and no other.
#[derive(Clone, Copy, Debug)]
pub enum Task<'a> {
    /// See [`Kind::Crl`].
    Crl(&'a KeyTable, &'a CrlTable),
    /// See [`Kind::CrossSign`].
    CrossSign(&'a KeyTable, &'a SubjectFile),
    /// See [`Kind::Intermediate`].
    Intermediate(&'a KeyTable, &'a RequestFile),
    /// See [`Kind::Root`].
    Root(&'a KeyTable, KeyType),
}

impl Ceremony {
    /// Parses and checks; `path` is where the text is from.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, CeremonyError> {
        let wrong = |problem| CeremonyError::Config { path: path.into(), problem };
        let mut ceremony: Self = chancery_daemon::config::parse(text).map_err(wrong)?;
        ceremony.path = path.into();
        ceremony.resolve(path.parent().unwrap_or(Path::new("")));
        ceremony.problem().map_or(Ok(ceremony), |problem| Err(wrong(problem)))
    }

    fn problem(&self) -> Option<String> {
        if self.life.as_secs() < 3600 || self.life > MAX_LIFE {
            return Some(format!("life: {} is outside 1h to {MAX_LIFE}", self.life));
        }
        let name = self.common_name.as_deref().unwrap_or("x");
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Some(format!("common_name: use 1 to {MAX_NAME} printable characters"));
        }
        match self.task() {
            Err(problem) => Some(problem),
            Ok(task) => self.lengths().or_else(|| self.output.problem(self.kind)).or_else(|| task.problem()),
        }
    }

    /// What is to be done, with the parts that takes.
    pub(super) fn task(&self) -> Result<Task<'_>, String> {
        let (key, issuer) = (self.key.as_ref(), self.issuer.as_ref());
        match (self.kind, key, issuer, &self.request, &self.subject, &self.crl) {
            (Kind::Root, Some(key), None, None, None, None) => {
                let kind = key.kind.ok_or("key.type: say which, for example \"ec-p384\"")?;
                Ok(Task::Root(key, kind))
            }
            (Kind::Root, ..) => {
                Err("kind = \"root\" needs [key], and neither [issuer], [request], [subject] nor [crl]".into())
            }
            (Kind::Intermediate, None, Some(issuer), Some(request), None, None) => {
                Ok(Task::Intermediate(issuer, request))
            }
            (Kind::Intermediate, ..) => {
                Err("kind = \"intermediate\" needs [issuer] and [request], and no [key]".into())
            }
            (Kind::CrossSign, None, Some(issuer), None, Some(subject), None) => Ok(Task::CrossSign(issuer, subject)),
            (Kind::CrossSign, ..) => Err("kind = \"cross-sign\" needs [issuer] and [subject], and no [key]".into()),
            (Kind::Crl, None, Some(issuer), None, None, Some(crl)) => Ok(Task::Crl(issuer, crl)),
            (Kind::Crl, ..) => Err("kind = \"crl\" needs [issuer] and [crl], and no [key]".into()),
        }
    }

    fn lengths(&self) -> Option<String> {
        if self.common_name.is_some() && matches!(self.kind, Kind::Crl | Kind::CrossSign) {
            return Some("common_name: only a root and an intermediate have one".into());
        }
        match (self.kind, self.path_length) {
            (Kind::Crl, None) => None,
            (Kind::Crl, Some(_)) => Some("path_length: a CRL has none".into()),
            (_, None) => Some("path_length: say how many CAs may follow below".into()),
            (_, Some(len)) if len > MAX_PATH_LEN => Some(format!("path_length: {len} exceeds {MAX_PATH_LEN}")),
            (Kind::Root | Kind::CrossSign, Some(0)) => {
                Some("path_length: a root with 0 could sign no CA; use at least 1".into())
            }
            (Kind::CrossSign | Kind::Intermediate | Kind::Root, Some(_)) => None,
        }
    }

    fn resolve(&mut self, folder: &Path) {
        let output = [&mut self.output.transcript].into_iter();
        let output = output.chain(&mut self.output.certificate).chain(&mut self.output.crl);
        let keys = self.key.iter_mut().chain(&mut self.issuer);
        let keys = keys.flat_map(|k| [&mut k.certificate, &mut k.file, &mut k.key, &mut k.pin_file]).flatten();
        let request = self.request.iter_mut().map(|request| &mut request.csr);
        let subject = self.subject.iter_mut().map(|subject| &mut subject.certificate);
        let previous = self.crl.iter_mut().filter_map(|crl| crl.previous.as_mut());
        for path in output.chain(keys).chain(request).chain(subject).chain(previous) {
            *path = folder.join(&*path);
        }
    }
}

impl Task<'_> {
    fn problem(self) -> Option<String> {
        match self {
            Self::Crl(issuer, crl) => issuer.issuer_problem().or_else(|| crl.problem()),
            Self::CrossSign(issuer, subject) => {
                issuer.issuer_problem().or_else(|| fingerprints("subject", &subject.denied, &subject.key_sha256))
            }
            Self::Intermediate(issuer, request) => {
                issuer.issuer_problem().or_else(|| fingerprints("request", &request.denied, &request.key_sha256))
            }
            Self::Root(key, _) => key.made_problem(),
        }
    }
}

impl KeyTable {
    fn made_problem(&self) -> Option<String> {
        if self.certificate.is_some() || self.key.is_some() {
            return Some("key: [key] is made; it has `file`, or a token's keys, and no certificate".into());
        }
        self.place("key", &self.file, "file").err()
    }

    fn issuer_problem(&self) -> Option<String> {
        if self.certificate.is_none() {
            return Some("issuer.certificate: name the PEM file with its certificate".into());
        }
        if self.file.is_some() || self.kind.is_some() {
            return Some(
                "issuer: it has `certificate` and `key`, or a token's keys; `file` and `type` are [key]'s".into(),
            );
        }
        self.place("issuer", &self.key, "key").err()
    }

    /// Where the key is that is made.
    pub(super) fn made(&self) -> Result<Place, String> {
        self.place("key", &self.file, "file")
    }

    /// Where the key is that signs.
    pub(super) fn signs(&self) -> Result<Place, String> {
        self.place("issuer", &self.key, "key")
    }

    fn place(&self, table: &str, file: &Option<PathBuf>, name: &str) -> Result<Place, String> {
        match (file, &self.module, &self.uri, &self.label) {
            (Some(file), None, None, None) if self.pin_file.is_none() && self.pin_env.is_none() => {
                Ok(Place::File(file.clone()))
            }
            (None, Some(module), Some(uri), Some(label)) => {
                let (module, uri, label) = (module.clone(), uri.clone(), label.clone());
                let (pin_file, pin_env) = (self.pin_file.clone(), self.pin_env.clone());
                let token = TokenKeyConfig { module, uri, label, pin_file, pin_env, deadline: DEADLINE };
                token.check().map_err(|problem| format!("{table}.{problem}"))?;
                Ok(Place::Token(token))
            }
            _ => Err(format!("{table}: give `{name}`, or `module`, `uri` and `label` (and `pin_file` or `pin_env`)")),
        }
    }
}

impl CrlTable {
    fn problem(&self) -> Option<String> {
        if self.previous.is_none() && self.number.is_none() {
            return Some("crl.previous: name the CRL before this one; for the very first say number = 1".into());
        }
        self.revoked.iter().find_map(|row| {
            if crl::serial(&row.serial).is_none() {
                let serial = &row.serial;
                return Some(format!(
                    "crl.revoked: serial \"{serial}\" is no serial number, decimal or 0x and hexadecimal"
                ));
            }
            moment::parse(&row.date)
                .is_none()
                .then(|| format!("crl.revoked: date \"{}\" is not like 2026-01-31T10:00:00Z", row.date))
        })
    }
}

impl Output {
    fn problem(&self, kind: Kind) -> Option<String> {
        match (kind, &self.certificate, &self.crl) {
            (Kind::Crl, None, Some(_)) => None,
            (Kind::Crl, ..) => Some("output.crl: name the file for the CRL, and no certificate".into()),
            (_, Some(_), None) => None,
            (..) => Some("output.certificate: name the file for the certificate, and no crl".into()),
        }
    }
}

fn fingerprints(table: &str, denied: &[String], expected: &Option<String>) -> Option<String> {
    let hex = |text: &&String| !(text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    let bad = denied.iter().chain(expected).find(hex)?;
    Some(format!("{table}: '{bad}' is not 64 hex digits, the SHA-256 of a SubjectPublicKeyInfo"))
}

fn trust_domain<'de, D: Deserializer<'de>>(d: D) -> Result<TrustDomain, D::Error> {
    TrustDomain::new(&String::deserialize(d)?).map_err(|e| de::Error::custom(format!("trust_domain: {e}")))
}
