//! Moments as people read them.

use chancery_sdk::time::UnixTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The moment of a text in RFC 3339; `None` where it is none.
pub(crate) fn parse(text: &str) -> Option<UnixTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(|at| UnixTime(at.unix_timestamp()))
}

/// RFC 3339, UTC; empty where the moment has no such form.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at.0).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
