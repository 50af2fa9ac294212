use std::{fmt, str::FromStr, sync::Arc};

use super::{IdError, MAX_TRUST_DOMAIN_BYTES, SpiffeId};

/// Name of a trust domain, for example `prod.example.org`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name.
    ///
    /// # Errors
    /// [`IdError`] naming the first rule broken.
    ///
    /// Source: SPIFFE-ID 2.1; conformance ID-02, ID-07 to ID-12, ID-25.
    pub fn new(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::MissingTrustDomain);
        }
        if !name.bytes().all(is_name_byte) {
            return Err(IdError::BadTrustDomainChar);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(IdError::TooLong { len: name.len(), max: MAX_TRUST_DOMAIN_BYTES });
        }
        Ok(Self(name.into()))
    }

    /// Parses what operators type: a name, or any SPIFFE ID of the domain (conformance ID-28).
    ///
    /// # Errors
    /// [`IdError`] naming the first rule broken.
    pub fn from_name_or_id(text: &str) -> Result<Self, IdError> {
        if text.contains(":/") {
            return SpiffeId::parse(text).map(|id| id.trust_domain());
        }
        Self::new(text)
    }

    /// The bare name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the domain itself, without a path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId::of_domain(self)
    }
}

/// Bytes a trust domain name is made of.
fn is_name_byte(b: u8) -> bool {
    matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_name_or_id(text)
    }
}
