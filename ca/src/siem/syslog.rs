//! Syslog over TLS: RFC 5424 messages in the octet-counted frames of RFC 5425.
//!
//! The protocol has no acknowledgement. So each page has a connection of its own, which is closed from here and awaited: whoever
//! ends it in good order has read to its end. A page that was not ended so is sent once more.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    form::{Form, Record, severity},
    net::Peer,
};
use crate::{config::Siem, store::StoredEvent};

/// Facility `authpriv`.
const FACILITY: u64 = 10;
/// Longest HOSTNAME.
const MAX_HOST: usize = 255;
/// Longest MSGID.
const MAX_MSGID: usize = 32;
/// Most that a receiver may say before it ends the connection.
const MAX_SAID: u64 = 4096;

/// The receiver.
pub(super) struct Receiver {
    peer: Peer,
}

impl Receiver {
    pub(super) fn open(config: &Siem) -> Result<Self, String> {
        let address = config.address.clone().ok_or("address: needed for syslog")?;
        Ok(Self { peer: Peer::secure(address, config)? })
    }

    pub(super) async fn deliver(&self, form: &Form, events: &[StoredEvent]) -> Result<(), String> {
        let mut frames = Vec::new();
        for event in events {
            let message = message(form, &form.write(event));
            frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
            frames.extend_from_slice(message.as_bytes());
        }
        let told = |e: std::io::Error| format!("{}: {e}", self.peer.address);
        let mut io = self.peer.connect().await?;
        io.write_all(&frames).await.map_err(told)?;
        io.shutdown().await.map_err(told)?;
        let mut said = Vec::new();
        // The end of the stream; without its close_notify this is an error.
        io.take(MAX_SAID).read_to_end(&mut said).await.map_err(told)?;
        if said.len() as u64 == MAX_SAID {
            return Err(format!("{}: it talks instead of ending the connection", self.peer.address));
        }
        Ok(())
    }
}

/// One message. Source: RFC 5424, 6.
fn message(form: &Form, record: &Record) -> String {
    let level = match severity(&record.kind) {
        5 => 2, // critical
        3 => 4, // warning
        _ => 6, // informational
    };
    let at = OffsetDateTime::from_unix_timestamp(record.at).ok().and_then(|at| at.format(&Rfc3339).ok());
    let at = at.unwrap_or_else(|| "-".into());
    let (host, msgid) = (printable(&form.server, MAX_HOST), printable(&record.kind, MAX_MSGID));
    let priority = FACILITY * 8 + level;
    // 32473 is the number for examples and for those who have none (RFC 5612).
    format!(
        "<{priority}>1 {at} {host} chancery-ca - {msgid} [chancery@32473 uid=\"{}\"] \u{feff}{}",
        record.uid.replace(['"', '\\', ']'], "_"),
        record.line
    )
}

/// Printable ASCII without blanks, or the nil value.
fn printable(text: &str, most: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if kept.is_empty() { "-".into() } else { kept }
}
