//! Records of what is issued seldom: it leaves the process only after its record is durable.

use chancery_core::event::Event;

use super::{Events, Stop, Tx, guard};
use crate::store::{AuthorityKind, RecordCa, RecordMint};

pub(super) async fn record_ca(tx: &mut Tx, fact: &RecordCa) -> Result<Events, Stop> {
    guard::authority(tx, &fact.authority, AuthorityKind::X509).await?;
    let spiffe_id = guard::entry(tx, &fact.entry_id, fact.entry_revision).await?;
    let event = Event::new("ca.issued", spiffe_id)
        .with("authority", fact.authority.as_str())
        .with("entry", fact.entry_id.as_str())
        .with("entry_revision", fact.entry_revision)
        .with("expires_at", fact.cert.expires_at.0)
        .with("key", hex::encode(fact.key_sha256))
        .with("serial", fact.cert.serial.as_str());
    Ok(vec![event])
}

pub(super) async fn record_mint(tx: &mut Tx, fact: &RecordMint) -> Result<Events, Stop> {
    guard::authority(tx, &fact.authority, fact.kind).await?;
    let event = Event::new("svid.minted", fact.id.as_str())
        .with("audience", fact.audience.clone())
        .with("authority", fact.authority.as_str())
        .with("expires_at", fact.expires_at.0)
        .with("kind", fact.kind.as_str())
        .with("serial", fact.serial.as_str())
        .with_personal("caller", &fact.caller);
    Ok(vec![event])
}
