//! A bounded reader of TPM wire structures: big-endian, nothing skipped, nothing allocated.

use thiserror::Error;

/// Why bytes are no TPM structure of the kind expected.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WireError {
    /// A field holds a value its type does not have.
    #[error("{0} has a value its type does not allow")]
    Field(&'static str),
    /// A sized field is longer than its kind can be.
    #[error("{field} of {len} bytes exceeds {max} bytes")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Bytes it claims.
        len: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// Bytes follow the structure.
    #[error("{0} bytes follow the structure")]
    Trailing(usize),
    /// The bytes end inside the structure.
    #[error("the structure is cut off")]
    Truncated,
}

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.bytes(N)?.try_into().map_err(|_| WireError::Truncated)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A TPM2B of at most `max` bytes.
    pub(crate) fn sized(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], WireError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(WireError::TooLong { field, len, max });
        }
        self.bytes(len)
    }

    /// Ends the structure.
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.0.len())) }
    }
}

/// A big-endian number of at most 32 bytes at full length: TPMs may leave leading zeros out.
pub(crate) fn padded(number: &[u8]) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let at = out.len().checked_sub(number.len())?;
    out.get_mut(at..)?.copy_from_slice(number);
    Some(out)
}
