use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{IdError, MAX_ID_BYTES, TrustDomain};

const SCHEME: &str = "spiffe://";

/// A SPIFFE ID, `spiffe://<trust domain>[/<path>]`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins: `text.len()` when there is none.
    path_at: usize,
}

impl SpiffeId {
    /// Parses an ID; the printed form of the result is byte-identical to `text`.
    ///
    /// # Errors
    /// [`IdError`] naming the first rule broken, left to right.
    ///
    /// Source: SPIFFE-ID section 2; conformance ID-01 to ID-26, ID-30.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::WrongScheme)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        TrustDomain::new(name)?;
        check_path(path)?;
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong { len: text.len(), max: MAX_ID_BYTES });
        }
        Ok(Self { text: text.into(), path_at: SCHEME.len() + name.len() })
    }

    /// Joins a domain and a path (empty, or beginning with `/`).
    ///
    /// # Errors
    /// [`IdError`] naming the rule the path breaks.
    pub fn from_path(domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        check_path(path)?;
        Self::parse(&format!("{SCHEME}{domain}{path}"))
    }

    /// Joins a domain and segments, each checked by itself (conformance ID-29).
    ///
    /// # Errors
    /// [`IdError::EmptySegment`], [`IdError::DotSegment`], [`IdError::BadPathChar`] or [`IdError::TooLong`].
    pub fn from_segments<S: AsRef<str>>(domain: &TrustDomain, segments: &[S]) -> Result<Self, IdError> {
        let mut text = format!("{SCHEME}{domain}");
        for segment in segments {
            check_segment(segment.as_ref())?;
            text.push('/');
            text.push_str(segment.as_ref());
        }
        Self::parse(&text)
    }

    pub(super) fn of_domain(domain: &TrustDomain) -> Self {
        let text: Arc<str> = format!("{SCHEME}{domain}").into();
        let path_at = text.len();
        Self { text, path_at }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain::new(self.trust_domain_name()).expect("the name was checked when the ID was parsed")
    }

    /// The trust domain's name, without allocating.
    pub fn trust_domain_name(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// The path: empty, or beginning with `/`.
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// The path's segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// Whether the ID lies in `domain`.
    pub fn is_member_of(&self, domain: &TrustDomain) -> bool {
        self.trust_domain_name() == domain.name()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check_path(path: &str) -> Result<(), IdError> {
    if path.is_empty() {
        return Ok(());
    }
    let Some(path) = path.strip_prefix('/') else { return Err(IdError::NoLeadingSlash) };
    let mut rest = path;
    while let Some((segment, after)) = rest.split_once('/') {
        check_segment(segment)?;
        rest = after;
    }
    match rest {
        // Nothing after the last slash; "//" was met before, as an empty segment.
        "" => Err(IdError::TrailingSlash),
        last => check_segment(last),
    }
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    match segment {
        "" => Err(IdError::EmptySegment),
        "." | ".." => Err(IdError::DotSegment),
        s if s.bytes().all(is_path_byte) => Ok(()),
        _ => Err(IdError::BadPathChar),
    }
}

fn is_path_byte(b: u8) -> bool {
    matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}
