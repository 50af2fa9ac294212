//! Which request of somebody's a credential is asked for: so that the CA's record leads back to it.
//!
//! A word of the caller's, recorded and believed by nobody. Vocabulary: who sends it, passes it on and records it share it.

use std::fmt;

/// Metadata key of the caller's own id of the request.
pub const REQUEST_ID: &str = "x-request-id";
/// Metadata key of the trace that the request is part of (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// Longest request id: a UUID, a ULID and most proxies' are shorter.
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// Length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// Why an origin is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OriginError {
    /// The request id.
    RequestId,
    /// The `traceparent`.
    Traceparent,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestId => {
                write!(f, "a request id has 1 to {MAX_REQUEST_ID_BYTES} letters, digits and any of . _ : / + = @ -")
            }
            Self::Traceparent => f.write_str("a traceparent is 00-32 hex-16 hex-2 hex, in lower case and not all zero"),
        }
    }
}

impl std::error::Error for OriginError {}

/// Where a request comes from; empty where nobody said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    request_id: Option<String>,
    traceparent: Option<String>,
}

impl Origin {
    /// Nothing is known.
    pub const NONE: Self = Self { request_id: None, traceparent: None };

    /// With the caller's own id of the request.
    ///
    /// # Errors
    /// [`OriginError::RequestId`].
    pub fn with_request_id(self, id: &str) -> Result<Self, OriginError> {
        if is_request_id(id) {
            Ok(Self { request_id: Some(id.to_owned()), ..self })
        } else {
            Err(OriginError::RequestId)
        }
    }

    /// With the trace that it is part of.
    ///
    /// # Errors
    /// [`OriginError::Traceparent`].
    pub fn with_traceparent(self, parent: &str) -> Result<Self, OriginError> {
        match is_traceparent(parent) {
            true => Ok(Self { traceparent: Some(parent.to_owned()), ..self }),
            false => Err(OriginError::Traceparent),
        }
    }

    /// What came over the wire: whatever has no such form is as if it had not come. Nobody is refused for it.
    pub fn read<'a>(metadata: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let id = metadata(REQUEST_ID).filter(|id| is_request_id(id));
        let parent = metadata(TRACEPARENT).filter(|parent| is_traceparent(parent));
        Self { request_id: id.map(str::to_owned), traceparent: parent.map(str::to_owned) }
    }

    /// The caller's own id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The trace that it is part of.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// Metadata keys and values, as they are sent.
    pub fn metadata(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let id = self.request_id().map(|id| (REQUEST_ID, id));
        id.into_iter().chain(self.traceparent().map(|parent| (TRACEPARENT, parent)))
    }
}

fn is_request_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/+=@-".contains(&byte);
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)
}

/// Version 00 only. Source: W3C Trace Context, 3.2.2.
fn is_traceparent(parent: &str) -> bool {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = parent.split('-');
    let (version, trace, span, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    let some =
        |part: Option<&str>, digits| part.is_some_and(|part| is_hex(part, digits) && part.bytes().any(|b| b != b'0'));
    parent.len() == TRACEPARENT_BYTES
        && version == Some("00")
        && some(trace, 32)
        && some(span, 16)
        && flags.is_some_and(|flags| is_hex(flags, 2))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_has_no_such_form_is_told_to_who_sets_it_and_left_out_by_who_reads_it() {
        let long = "a".repeat(MAX_REQUEST_ID_BYTES + 1);
        for id in ["", " ", "a b", "a\nb", "\"", "é", long.as_str()] {
            assert_eq!(Origin::NONE.with_request_id(id), Err(OriginError::RequestId), "{id:?}");
            assert_eq!(Origin::read(|key| (key == REQUEST_ID).then_some(id)), Origin::NONE);
        }
        let zero_trace = PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let (upper, long) = (PARENT.to_uppercase(), format!("{PARENT}-00"));
        for parent in ["", "00", &PARENT[1..], &zero_trace, &upper, &long, &PARENT.replace("00-4", "ff-4")] {
            assert_eq!(Origin::NONE.with_traceparent(parent), Err(OriginError::Traceparent), "{parent:?}");
            assert_eq!(Origin::read(|key| (key == TRACEPARENT).then_some(parent)), Origin::NONE);
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        let sent = Origin::NONE.with_request_id("req-1:a/b").unwrap().with_traceparent(PARENT).unwrap();
        let read = Origin::read(|key| sent.metadata().find(|(name, _)| *name == key).map(|(_, value)| value));
        assert_eq!(read, sent);
        assert_eq!(Origin::NONE.metadata().count(), 0);
    }
}
