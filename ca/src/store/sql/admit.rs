//! Admission: one guarded transaction from token to node row.

use chancery_core::{
    event::Event,
    node::{Node, Standing},
};
use chancery_sdk::time::UnixTime;

use super::{Events, Stop, Tx, evidence, guard, instances, nodes, tokens};
use crate::store::{
    AdmitNode, AuthorityKind, Refusal,
    rows::{boot_text, selectors_text},
};

const ENROLLED: &str = "SELECT COUNT(*) FROM enrolments WHERE ek_hash = $1";
const EK_TAKEN: &str = "SELECT COUNT(*) FROM nodes WHERE ek_hash = $1 AND id <> $2";
const KEY_ENROLLED: &str = "SELECT COUNT(*) FROM key_enrolments WHERE key_sha256 = $1";
/// An attestation key is one node's, and never the key of an SVID.
const KEY_TAKEN: &str = "SELECT COUNT(*) FROM nodes WHERE (key_sha256 = $1 AND id <> $2) OR svid_key = $1";
/// The key of an SVID is one identity's.
const SVID_KEY_TAKEN: &str = "SELECT (SELECT COUNT(*) FROM nodes WHERE (svid_key = $1 AND id <> $2) OR key_sha256 = $1) \
    + (SELECT COUNT(*) FROM instance_keys WHERE spki_sha256 = $1)";
const AK_TAKEN: &str = "SELECT COUNT(*) FROM nodes WHERE ak_name = $1 AND id <> $2";
/// `agent_version` and `boot` are others' facts and stay; evidence or a token that did not come leaves the last one.
const UPSERT: &str = "INSERT INTO nodes (id, attestation_type, standing, reason, current_serial, current_expires_at, \
    fresh_serial, fresh_expires_at, selectors, can_reattest, agent_version, attested_at, version, boot, ek_hash, \
    ak_name, activated_at, boot_state, evidence, key_sha256, key_source, svid_key) \
    VALUES ($1, $2, 'good', '', $3, $4, $5, $6, $7, $8, '', $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
    ON CONFLICT (id) DO UPDATE SET attestation_type = excluded.attestation_type, standing = excluded.standing, \
    reason = excluded.reason, current_serial = excluded.current_serial, \
    current_expires_at = excluded.current_expires_at, fresh_serial = excluded.fresh_serial, \
    fresh_expires_at = excluded.fresh_expires_at, selectors = excluded.selectors, \
    can_reattest = excluded.can_reattest, attested_at = excluded.attested_at, version = excluded.version, \
    ek_hash = excluded.ek_hash, ak_name = excluded.ak_name, activated_at = excluded.activated_at, \
    boot_state = excluded.boot_state, evidence = COALESCE(excluded.evidence, nodes.evidence), \
    key_sha256 = COALESCE(excluded.key_sha256, nodes.key_sha256), \
    key_source = COALESCE(excluded.key_source, nodes.key_source), svid_key = excluded.svid_key";

pub(super) async fn admit(tx: &mut Tx, at: UnixTime, fact: &AdmitNode) -> Result<Events, Stop> {
    if let Some(hash) = &fact.spend_token {
        tokens::may_spend(tx, at, hash).await?;
    }
    guard::authority(tx, &fact.authority, AuthorityKind::X509).await?;
    enrolled(tx, fact).await?;
    let stored = nodes::stored(tx, &fact.node.id).await?;
    expected(fact, stored.as_ref())?;
    unbound(tx, &fact.node).await?;
    keys_unbound(tx, fact).await?;
    if let Some(hash) = &fact.spend_token {
        tokens::spend(tx, at, hash).await?;
    }
    let is_due = evidence::is_due(stored.as_ref(), at);
    let node = merged(fact, stored);
    write(tx, &node, fact).await?;
    let mut admitted = event(fact, &node);
    if let Some(kept) = &fact.kept {
        admitted = admitted.with("evidence", evidence::keep(tx, kept, is_due).await?);
    }
    let mut events = vec![admitted];
    if fact.ends_instances {
        events.extend(instances::end_all_of_node(tx, at, node.id.as_str(), "new-boot").await?);
    }
    Ok(events)
}

async fn enrolled(tx: &mut Tx, fact: &AdmitNode) -> Result<(), Stop> {
    if fact.require_enrolled {
        let ek_hash = fact.node.tpm.as_ref().map(|tpm| tpm.ek_hash.to_vec()).ok_or(Refusal::EkNotEnrolled)?;
        if count(tx, ENROLLED, ek_hash).await? == 0 {
            return Err(Refusal::EkNotEnrolled.into());
        }
    }
    if fact.require_key_enrolled {
        let key = fact.node.pkcs11.as_ref().map(|key| key.key_sha256.to_vec()).ok_or(Refusal::KeyNotEnrolled)?;
        if count(tx, KEY_ENROLLED, key).await? == 0 {
            return Err(Refusal::KeyNotEnrolled.into());
        }
    }
    Ok(())
}

async fn count(tx: &mut Tx, sql: &'static str, hash: Vec<u8>) -> Result<i64, Stop> {
    Ok(sqlx::query_scalar(sql).bind(hash).fetch_one(&mut *tx).await?)
}

/// The decision was made on the row as it is now.
fn expected(fact: &AdmitNode, stored: Option<&Node>) -> Result<(), Refusal> {
    match (fact.expected_version, stored) {
        (None, None) => Ok(()),
        (None, Some(node)) => Err(Refusal::AlreadyExists(Some(node.id.to_string()))),
        (Some(_), None) => Err(Refusal::NotFound),
        (Some(_), Some(node)) if node.standing == Standing::Banned => Err(Refusal::NodeNotGood),
        (Some(version), Some(node)) if node.version != version => Err(Refusal::Stale),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// No other node holds this EK or this attestation key.
async fn unbound(tx: &mut Tx, node: &Node) -> Result<(), Stop> {
    let Some(tpm) = &node.tpm else { return Ok(()) };
    let id = node.id.as_str();
    let others: i64 = sqlx::query_scalar(EK_TAKEN).bind(tpm.ek_hash.to_vec()).bind(id).fetch_one(&mut *tx).await?;
    if others > 0 {
        return Err(Refusal::EkTaken.into());
    }
    let others: i64 = sqlx::query_scalar(AK_TAKEN).bind(&tpm.ak_name).bind(id).fetch_one(&mut *tx).await?;
    if others > 0 { Err(Refusal::AkTaken.into()) } else { Ok(()) }
}

/// No other node holds the token's key, and the key of the SVID is nobody else's.
async fn keys_unbound(tx: &mut Tx, fact: &AdmitNode) -> Result<(), Stop> {
    let id = fact.node.id.as_str();
    if let Some(key) = &fact.node.pkcs11 {
        let taken = sqlx::query_scalar(KEY_TAKEN).bind(key.key_sha256.to_vec()).bind(id);
        let taken: i64 = taken.fetch_one(&mut *tx).await?;
        if taken > 0 {
            return Err(Refusal::KeyTaken.into());
        }
    }
    let taken = sqlx::query_scalar(SVID_KEY_TAKEN).bind(fact.svid_key.to_vec()).bind(id);
    let taken: i64 = taken.fetch_one(&mut *tx).await?;
    if taken > 0 { Err(Refusal::SvidKeyTaken.into()) } else { Ok(()) }
}

/// The old certificate of a good node stays current until the new one is used, so that live streams do not break.
fn merged(fact: &AdmitNode, stored: Option<Node>) -> Node {
    let version = stored.as_ref().map_or(0, |node| node.version + 1);
    let old = stored.filter(|node| node.standing == Standing::Good).and_then(|node| node.current);
    let (current, fresh) = match old {
        Some(old) => (Some(old), Some(fact.cert.clone())),
        None => (Some(fact.cert.clone()), None),
    };
    Node { standing: Standing::Good, reason: String::new(), current, fresh, version, ..fact.node.clone() }
}

async fn write(tx: &mut Tx, node: &Node, fact: &AdmitNode) -> Result<(), Stop> {
    let (tpm, token) = (node.tpm.as_ref(), node.pkcs11.as_ref());
    let upsert = sqlx::query(UPSERT)
        .bind(node.id.as_str())
        .bind(&node.attestation_type)
        .bind(node.current.as_ref().map(|c| c.serial.clone()))
        .bind(node.current.as_ref().map(|c| c.expires_at.0))
        .bind(node.fresh.as_ref().map(|c| c.serial.clone()))
        .bind(node.fresh.as_ref().map(|c| c.expires_at.0))
        .bind(selectors_text(&node.selectors))
        .bind(node.can_reattest)
        .bind(node.attested_at.0)
        .bind(node.version)
        .bind(Vec::<u8>::new())
        .bind(tpm.map(|t| t.ek_hash.to_vec()))
        .bind(tpm.map(|t| t.ak_name.clone()))
        .bind(tpm.map(|t| t.activated_at.0))
        .bind(tpm.map(boot_text))
        .bind(fact.evidence.clone())
        .bind(token.map(|t| t.key_sha256.to_vec()))
        .bind(token.map(|t| t.source.clone()))
        .bind(fact.svid_key.to_vec());
    Ok(guard::one_row(upsert.execute(&mut *tx).await?.rows_affected(), "nodes", node.id.as_str())?)
}

fn event(fact: &AdmitNode, node: &Node) -> Event {
    let event = Event::new("node.attested", node.id.as_str())
        .with("attestation_type", node.attestation_type.as_str())
        .with("authority", fact.authority.as_str())
        .with("expires_at", fact.cert.expires_at.0)
        .with("first", fact.expected_version.is_none())
        .with("new_boot", fact.ends_instances)
        .with("selectors", node.selectors.iter().map(ToString::to_string).collect::<Vec<_>>())
        .with("serial", fact.cert.serial.as_str())
        .with("steps", nodes::steps(&fact.steps))
        .with_personal("source", &fact.source);
    let event = match &node.tpm {
        Some(tpm) => event.with("ak_name", hex::encode(&tpm.ak_name)).with("ek_hash", hex::encode(tpm.ek_hash)),
        None => event,
    };
    match &node.pkcs11 {
        Some(token) => event.with("key_sha256", hex::encode(token.key_sha256)),
        None => event,
    }
}
