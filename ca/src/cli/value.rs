//! Values of arguments, between text and the wire.

use std::time::Duration;

use chancery_daemon::span::Span;
use chancery_proto::spire::api::types;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::failure::Failure;

/// Parses `1h30m`, or plain seconds as SPIRE's tools write them; rounds up to whole seconds.
pub fn ttl(text: &str) -> Result<i32, String> {
    let span = match text.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => text.parse::<Span>().map_err(|e| e.to_string())?.0,
    };
    let secs = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i32::try_from(secs).map_err(|_| format!("'{text}' exceeds {} s", i32::MAX))
}

/// Parses `TYPE:VALUE`.
pub fn selector(text: &str) -> Result<types::Selector, String> {
    let selector: chancery_core::selector::Selector =
        text.parse().map_err(|e: chancery_core::selector::SelectorError| e.to_string())?;
    Ok(types::Selector { r#type: selector.kind().into(), value: selector.value().into() })
}

/// Parses a SPIFFE ID.
pub fn id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text).map_err(|e| format!("{e}; write it like spiffe://example.org/db"))
}

/// Parses a trust domain, `example.org` or `spiffe://example.org`.
pub fn domain(text: &str) -> Result<String, String> {
    TrustDomain::from_name_or_id(text).map(|domain| domain.name().to_owned()).map_err(|e| e.to_string())
}

/// An ID on the wire.
pub fn parts(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid { trust_domain: id.trust_domain_name().into(), path: id.path().into() }
}

/// An ID from the wire; empty where the message has none.
pub fn joined(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path)).unwrap_or_default()
}

/// RFC 3339 in UTC.
pub fn rfc3339(at: i64) -> String {
    crate::moment::rfc3339(UnixTime(at))
}

/// Seconds since 1970 of an RFC 3339 text or of plain seconds.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(secs) = text.parse() {
        return Ok(secs);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|e| format!("{e}; write it like 2026-01-31T10:00:00Z"))?;
    Ok(at.unix_timestamp())
}

/// The item of a batch's answer, or its refusal.
///
/// # Errors
/// [`Failure::Refused`] with the item's message.
pub fn accepted(status: Option<types::Status>) -> Result<(), Failure> {
    match status {
        Some(status) if status.code == 0 => Ok(()),
        Some(status) => Err(Failure::refused(status.message)),
        None => Err(Failure::refused("the CA's answer has no status".into())),
    }
}

/// A time before which an entry counts as without end.
pub fn expiry(at: i64) -> Option<UnixTime> {
    (at > 0).then_some(UnixTime(at))
}
