use thiserror::Error;

/// Why a text is no SPIFFE ID; checks run left to right, so the first fault is told.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IdError {
    /// A path byte outside `A-Z a-z 0-9 . - _ /`.
    #[error("path may hold only letters, digits, '.', '-', '_' between slashes")]
    BadPathChar,
    /// A trust domain byte outside `a-z 0-9 . - _`.
    #[error("trust domain may hold only lower-case letters, digits, '.', '-', '_'")]
    BadTrustDomainChar,
    /// A segment that is `.` or `..`.
    #[error("path may not hold '.' or '..' segments")]
    DotSegment,
    /// No text at all.
    #[error("a SPIFFE ID may not be empty")]
    Empty,
    /// Two slashes in a row.
    #[error("path may not hold empty segments")]
    EmptySegment,
    /// Nothing between `spiffe://` and the path.
    #[error("trust domain is missing")]
    MissingTrustDomain,
    /// A path that does not begin with a slash.
    #[error("path must begin with '/'")]
    NoLeadingSlash,
    /// More than 2048 bytes of ID or 255 bytes of trust domain.
    #[error("ID of {len} bytes exceeds {max} bytes")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A path that ends with a slash.
    #[error("path may not end with '/'")]
    TrailingSlash,
    /// The text does not begin with `spiffe://` in lower case.
    #[error("scheme must be 'spiffe://'")]
    WrongScheme,
}
