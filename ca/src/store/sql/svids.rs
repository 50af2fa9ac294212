//! Issuance records: the SVID leaves the process only after its record is durable.

use chancery_core::event::Event;

use super::{Events, Stop, Tx, guard};
use crate::store::{AuthorityKind, JwtSubject, RecordCa, RecordJwt, RecordMint, RecordX509};

pub(super) async fn record_x509(tx: &mut Tx, fact: &RecordX509) -> Result<Events, Stop> {
    guard::issuing(tx, &fact.node_id, &fact.node_serial, &fact.authority, AuthorityKind::X509).await?;
    let spiffe_id = guard::entry(tx, &fact.entry_id, fact.entry_revision).await?;
    let event = Event::new("svid.issued", spiffe_id)
        .with("authority", fact.authority.as_str())
        .with("entry", fact.entry_id.as_str())
        .with("entry_revision", fact.entry_revision)
        .with("expires_at", fact.cert.expires_at.0)
        .with("node", fact.node_id.as_str())
        .with("serial", fact.cert.serial.as_str());
    Ok(vec![event])
}

pub(super) async fn record_jwt(tx: &mut Tx, fact: &RecordJwt) -> Result<Events, Stop> {
    guard::issuing(tx, &fact.node_id, &fact.node_serial, &fact.authority, AuthorityKind::Jwt).await?;
    let event = match &fact.subject {
        JwtSubject::Entry { id, revision } => {
            let spiffe_id = guard::entry(tx, id, *revision).await?;
            Event::new("jwt.issued", spiffe_id).with("entry", id.as_str()).with("entry_revision", *revision)
        }
        JwtSubject::Instance { id, start_token } => {
            let class = guard::instance(tx, id, &fact.node_id, start_token).await?;
            guard::class(tx, &class).await?;
            Event::new("jwt.issued", id.as_str()).with("class", class)
        }
    };
    let event = event
        .with("audience", fact.audience.clone())
        .with("authority", fact.authority.as_str())
        .with("expires_at", fact.expires_at.0)
        .with("node", fact.node_id.as_str());
    Ok(vec![event])
}

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
