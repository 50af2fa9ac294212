//! Selectors: one verified fact each, `type:value`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;

/// A set of facts; entries and classes match when their set is contained in the caller's.
pub type Selectors = BTreeSet<Selector>;

/// Longest selector value in bytes; a path of PATH_MAX fits.
pub const MAX_VALUE_BYTES: usize = 4096;
/// Longest selector type in bytes.
pub const MAX_TYPE_BYTES: usize = 255;

/// One verified fact about a node or a process.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Selector {
    kind: String,
    value: String,
}

/// Why a text is no selector.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SelectorError {
    /// The type is empty, too long or holds a colon.
    #[error("selector type must be 1 to {MAX_TYPE_BYTES} bytes without ':'")]
    Type,
    /// The value is empty or too long.
    #[error("selector value must be 1 to {MAX_VALUE_BYTES} bytes")]
    Value,
    /// There is no colon.
    #[error("selector must look like TYPE:VALUE, for example unix:uid:1000")]
    Shape,
}

impl Selector {
    /// Joins a type (no colon) and a value (may hold colons).
    ///
    /// # Errors
    /// [`SelectorError`] naming the part that is wrong. Source: SPIRE's selector rule.
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        if kind.is_empty() || kind.len() > MAX_TYPE_BYTES || kind.contains(':') {
            return Err(SelectorError::Type);
        }
        if value.is_empty() || value.len() > MAX_VALUE_BYTES {
            return Err(SelectorError::Value);
        }
        Ok(Self { kind: kind.into(), value: value.into() })
    }

    /// The part before the first colon.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The part after the first colon.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(':').ok_or(SelectorError::Shape)?;
        Self::new(kind, value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Whether every selector is a path or digest of the executable.
///
/// Those describe the process that connected, not whoever shares its socket: a class of only these is
/// refused, an entry gets a warning. Source: ARCHITECTURE, "What kernel facts prove".
pub fn only_executable(selectors: &Selectors) -> bool {
    let executable =
        |s: &Selector| s.kind() == "unix" && (s.value().starts_with("path:") || s.value().starts_with("sha256:"));
    !selectors.is_empty() && selectors.iter().all(executable)
}
