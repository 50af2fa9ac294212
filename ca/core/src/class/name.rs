use std::{fmt, str::FromStr};

use chancery_sdk::id::{IdError, SpiffeId, TrustDomain};
use thiserror::Error;
use uuid::Uuid;

/// Most segments in a class name.
pub const MAX_SEGMENTS: usize = 4;

/// Name of an agent class, for example `finance/refund-agent`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClassName(String);

/// Why a text is no class name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClassNameError {
    /// A segment breaks the SPIFFE path rules.
    #[error("class name: {0}")]
    Path(#[from] IdError),
    /// Not 1 to 4 segments.
    #[error("class name has {0} segments, allowed are 1 to {MAX_SEGMENTS}")]
    Segments(usize),
    /// A segment that could be mistaken for an instance.
    #[error("class name segment '{0}' has the form of a UUID")]
    UuidSegment(String),
}

impl ClassName {
    /// Parses `segment[/segment...]`, 1 to 4 segments, none with the form of a UUID.
    ///
    /// # Errors
    /// [`ClassNameError`] naming the rule broken. Source: ARCHITECTURE, Identities.
    pub fn new(text: &str) -> Result<Self, ClassNameError> {
        let segments: Vec<&str> = text.split('/').collect();
        if text.is_empty() || segments.len() > MAX_SEGMENTS {
            return Err(ClassNameError::Segments(if text.is_empty() { 0 } else { segments.len() }));
        }
        let domain = TrustDomain::new("x")?;
        SpiffeId::from_segments(&domain, &segments)?;
        if let Some(bad) = segments.iter().find(|s| Uuid::try_parse(s).is_ok()) {
            return Err(ClassNameError::UuidSegment((*bad).into()));
        }
        Ok(Self(text.into()))
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the instance `uuid` of this class.
    ///
    /// # Errors
    /// [`IdError::TooLong`] where domain and name leave no room.
    pub fn instance_id(&self, domain: &TrustDomain, uuid: Uuid) -> Result<SpiffeId, IdError> {
        SpiffeId::from_path(domain, &format!("/agent/{}/{uuid}", self.0))
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClassName {
    type Err = ClassNameError;

    fn from_str(text: &str) -> Result<Self, ClassNameError> {
        Self::new(text)
    }
}
