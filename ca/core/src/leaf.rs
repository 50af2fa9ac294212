//! What is about to be signed: values that only decisions of this crate make.
//!
//! `ca::authority` signs a [`Leaf`] or a [`JwtGrant`] and nothing else, so a certificate that no decision
//! stands behind cannot be written down. Decisions live with their subject (`entry`, `instance`, `mint`);
//! the two for the CA's own household, node and server, are here.

use chancery_sdk::{
    id::{IdError, SpiffeId, TrustDomain},
    time::UnixTime,
};
use thiserror::Error;

use crate::{csr::Csr, ids, lifetime::Validity};

/// Most audiences in one token.
pub const MAX_AUDIENCES: usize = 16;
/// Longest audience in bytes.
pub const MAX_AUDIENCE_BYTES: usize = 2048;

/// A decided end-entity certificate: an X509-SVID that authenticates and never signs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    id: SpiffeId,
    spki: Vec<u8>,
    dns_names: Vec<String>,
    validity: Validity,
    serial: [u8; 16],
    subject: Subject,
}

/// A decided JWT-SVID.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtGrant {
    id: SpiffeId,
    audience: Vec<String>,
    issued_at: UnixTime,
    expires_at: UnixTime,
    jti: Option<String>,
}

/// Subject of a certificate: attributes in order, dotted OID and text. Empty: the SAN extension is critical (XS-07).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subject(pub Vec<(String, String)>);

/// Why nothing may be signed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum LeafError {
    /// An audience is too long.
    #[error("an audience of {len} bytes exceeds {MAX_AUDIENCE_BYTES} bytes")]
    AudienceTooLong {
        /// Bytes given.
        len: usize,
    },
    /// The ID breaks a length or character rule.
    #[error(transparent)]
    Id(#[from] IdError),
    /// No audience, or only empty ones.
    #[error("a JWT-SVID needs at least one audience")]
    NoAudience,
    /// The ID of a trust domain is for authorities.
    #[error("a leaf's SPIFFE ID needs a path: the bare trust domain belongs to authorities")]
    NoPath,
    /// The ID is of no node.
    #[error("a node's SPIFFE ID begins with /spire/agent/")]
    NotANode,
    /// The serial number is zero.
    #[error("serial number 0 is not allowed")]
    SerialZero,
    /// More than [`MAX_AUDIENCES`].
    #[error("{0} audiences exceed {MAX_AUDIENCES}")]
    TooManyAudiences(usize),
}

impl Leaf {
    /// Decides a leaf for a key of proven possession.
    ///
    /// # Errors
    /// [`LeafError::NoPath`] (XS-05), [`LeafError::SerialZero`].
    pub(crate) fn new(id: SpiffeId, csr: &Csr, validity: Validity, serial: [u8; 16]) -> Result<Self, LeafError> {
        Self::of_spki(id, csr.spki_der().to_vec(), validity, serial)
    }

    fn of_spki(id: SpiffeId, spki: Vec<u8>, validity: Validity, serial: [u8; 16]) -> Result<Self, LeafError> {
        if id.path().is_empty() {
            return Err(LeafError::NoPath);
        }
        if serial == [0; 16] {
            return Err(LeafError::SerialZero);
        }
        Ok(Self { id, spki, dns_names: Vec::new(), validity, serial, subject: Subject::named(None) })
    }

    /// Adds DNS names that passed validation; the first one becomes the common name, as in SPIRE.
    pub(crate) fn with_dns_names(mut self, names: Vec<String>) -> Self {
        self.subject = Subject::named(names.first().map(String::as_str));
        self.dns_names = names;
        self
    }

    pub(crate) fn with_subject(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// The one URI name.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The key: DER SubjectPublicKeyInfo, canonical.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// DNS names, in order.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// From when.
    pub fn not_before(&self) -> UnixTime {
        self.validity.not_before
    }

    /// Until when.
    pub fn not_after(&self) -> UnixTime {
        self.validity.not_after
    }

    /// Serial number, big-endian, never zero.
    pub fn serial(&self) -> [u8; 16] {
        self.serial
    }

    /// Subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}

/// Decides the SVID of a node that was admitted; `spki` is the node key that was proven (DER SubjectPublicKeyInfo).
///
/// # Errors
/// [`LeafError::NotANode`], [`LeafError::SerialZero`].
pub fn for_node(id: &SpiffeId, spki: &[u8], validity: Validity, serial: [u8; 16]) -> Result<Leaf, LeafError> {
    if !ids::is_node_path(id) {
        return Err(LeafError::NotANode);
    }
    Leaf::of_spki(id.clone(), spki.to_vec(), validity, serial)
}

/// Decides the CA's own SVID, `spiffe://TD/spire/server`.
///
/// # Errors
/// [`LeafError::Id`] where the domain leaves no room, [`LeafError::SerialZero`].
pub fn for_server(domain: &TrustDomain, spki: &[u8], validity: Validity, serial: [u8; 16]) -> Result<Leaf, LeafError> {
    Leaf::of_spki(ids::server(domain)?, spki.to_vec(), validity, serial)
}

impl Subject {
    /// `O=Chancery`, and the common name where there is one: some stacks refuse an empty subject.
    fn named(common_name: Option<&str>) -> Self {
        const OID_COMMON_NAME: &str = "2.5.4.3";
        const OID_ORGANIZATION: &str = "2.5.4.10";
        let mut attributes = vec![(OID_ORGANIZATION.to_owned(), "Chancery".to_owned())];
        // RFC 5280 bounds a common name at 64 characters; a longer DNS name stays in the SAN only.
        if let Some(name) = common_name.filter(|n| n.len() <= 64) {
            attributes.push((OID_COMMON_NAME.to_owned(), name.to_owned()));
        }
        Self(attributes)
    }
}

impl JwtGrant {
    /// Decides a token; empty audiences are dropped, as in SPIRE.
    ///
    /// # Errors
    /// [`LeafError`] naming the rule broken. Source: conformance JS-16, JS-18, JS-24.
    pub(crate) fn new(
        id: SpiffeId,
        audience: &[String],
        issued_at: UnixTime,
        expires_at: UnixTime,
        jti: Option<String>,
    ) -> Result<Self, LeafError> {
        if id.path().is_empty() {
            return Err(LeafError::NoPath);
        }
        let audience = check_audience(audience)?;
        Ok(Self { id, audience, issued_at, expires_at, jti })
    }

    /// `sub`.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// `aud`, at least one, none empty.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// `iat`.
    pub fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// `exp`.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// `jti`, where the entry asks for one.
    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }
}

/// Drops empty audiences and holds the rest to their limits (JS-18).
///
/// # Errors
/// [`LeafError::NoAudience`], [`LeafError::TooManyAudiences`], [`LeafError::AudienceTooLong`].
pub fn check_audience(audience: &[String]) -> Result<Vec<String>, LeafError> {
    let kept: Vec<String> = audience.iter().filter(|a| !a.is_empty()).cloned().collect();
    if kept.is_empty() {
        return Err(LeafError::NoAudience);
    }
    if kept.len() > MAX_AUDIENCES {
        return Err(LeafError::TooManyAudiences(kept.len()));
    }
    match kept.iter().map(String::len).max() {
        Some(len) if len > MAX_AUDIENCE_BYTES => Err(LeafError::AudienceTooLong { len }),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: Validity = Validity { not_before: UnixTime(90), not_after: UnixTime(200) };

    fn domain() -> TrustDomain {
        TrustDomain::new("example.org").unwrap()
    }

    #[test]
    fn xs_05_leaf_without_a_path_is_refused() {
        assert_eq!(Leaf::of_spki(domain().id(), vec![1], VALID, [1; 16]), Err(LeafError::NoPath));
        let token = JwtGrant::new(domain().id(), &["a".into()], UnixTime(1), UnixTime(2), None);
        assert_eq!(token, Err(LeafError::NoPath));
    }

    #[test]
    fn node_leaf_needs_a_node_id() {
        let id = SpiffeId::parse("spiffe://example.org/db").unwrap();
        assert_eq!(for_node(&id, &[1], VALID, [1; 16]), Err(LeafError::NotANode));
        let id = SpiffeId::parse("spiffe://example.org/spire/agent/tpm/00").unwrap();
        assert_eq!(for_node(&id, &[1], VALID, [1; 16]).unwrap().id(), &id);
    }

    #[test]
    fn server_leaf_has_the_reserved_id() {
        let leaf = for_server(&domain(), &[1], VALID, [1; 16]).unwrap();
        assert_eq!(leaf.id().as_str(), "spiffe://example.org/spire/server");
        assert_eq!(for_server(&domain(), &[1], VALID, [0; 16]), Err(LeafError::SerialZero));
    }

    #[test]
    fn js_18_audience_of_empty_strings_is_none() {
        assert_eq!(check_audience(&[]), Err(LeafError::NoAudience));
        assert_eq!(check_audience(&[String::new(), String::new()]), Err(LeafError::NoAudience));
        assert_eq!(check_audience(&[String::new(), "a".into()]).unwrap(), ["a"]);
        assert_eq!(check_audience(&vec!["a".to_owned(); 17]), Err(LeafError::TooManyAudiences(17)));
        assert_eq!(check_audience(&["a".repeat(2049)]), Err(LeafError::AudienceTooLong { len: 2049 }));
    }

    #[test]
    fn common_name_is_the_first_dns_name_that_fits() {
        let names = vec!["db.example.org".to_owned(), "b".to_owned()];
        let leaf = for_server(&domain(), &[1], VALID, [1; 16]).unwrap().with_dns_names(names.clone());
        assert_eq!(leaf.subject().0.last().unwrap().1, "db.example.org");
        assert_eq!(leaf.dns_names(), names);
        let long = vec![format!("{}.{}", "a".repeat(60), "b".repeat(60))];
        let leaf = for_server(&domain(), &[1], VALID, [1; 16]).unwrap().with_dns_names(long);
        assert_eq!(leaf.subject().0.len(), 1);
    }
}
