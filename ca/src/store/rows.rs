//! Rows as the database gives them, and the way from rows to the core's types.
//!
//! What does not parse is corruption: our own writes are the only ones.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use chancery_core::{
    class::{Class, ClassName, NodeProof},
    entry::{Entry, Rights},
    instance::Instance,
    node::{BootState, CertRef, KeyBinding, Node, TpmBinding},
    selector::{Selector, Selectors},
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::{
    Anchor, Authority, Enrolment, FederatedBundle, Guest, KeyEnrolment, KeyRecord, Logged, StoreError, StoredEvent,
};

/// Tells which row is corrupt.
struct At<'a> {
    table: &'static str,
    key: &'a str,
}

impl At<'_> {
    fn fault(&self, fault: impl Display) -> StoreError {
        StoreError::Corrupt { table: self.table, key: self.key.into(), fault: fault.to_string() }
    }

    fn parse<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|e| self.fault(e))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|e| self.fault(e))
    }

    fn hash(&self, bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
        <[u8; 32]>::try_from(bytes).map_err(|b| self.fault(format!("hash of {} bytes", b.len())))
    }

    fn selectors(&self, text: &str) -> Result<Selectors, StoreError> {
        let list: Vec<String> = self.json(text)?;
        list.iter().map(|s| self.parse::<Selector>(s)).collect()
    }
}

/// Canonical text of a set of selectors: equal sets have equal texts.
pub(super) fn selectors_text(selectors: &Selectors) -> String {
    list_text(selectors.iter().map(ToString::to_string))
}

/// A list of strings as JSON.
pub(super) fn list_text(items: impl IntoIterator<Item = String>) -> String {
    serde_json::Value::from(items.into_iter().collect::<Vec<_>>()).to_string()
}

/// An entry in one value, its parts divided by line feeds, which none but the last can hold: a start reads every entry, and most
/// of that is the handing over of values.
#[derive(FromRow)]
pub(super) struct EntryRow(String);

impl TryFrom<EntryRow> for Entry {
    type Error = StoreError;

    fn try_from(EntryRow(row): EntryRow) -> Result<Self, StoreError> {
        let mut parts = row.splitn(13, '\n');
        let id = parts.next().unwrap_or_default();
        let at = At { table: "entries", key: id };
        let mut next = || parts.next().ok_or_else(|| at.fault("a part is missing"));
        let (spiffe_id, parent_id) = (at.parse(next()?)?, at.parse(next()?)?);
        let selectors = at.selectors(next()?)?;
        let (x509_svid_ttl, jwt_svid_ttl) = (at.parse(next()?)?, at.parse(next()?)?);
        let domains = next()?.split(',').filter(|name| !name.is_empty());
        let federates_with = domains.map(|name| at.parse::<TrustDomain>(name)).collect::<Result<_, _>>()?;
        let flags: u8 = at.parse(next()?)?;
        let is = |flag: u8| flags & flag != 0;
        let expires_at = Some(next()?).filter(|text| !text.is_empty());
        Ok(Self {
            id: id.to_owned(),
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with,
            rights: Rights { admin: is(1), downstream: is(2) },
            expires_at: expires_at.map(|text| at.parse(text).map(UnixTime)).transpose()?,
            dns_names: at.json(next()?)?,
            store_svid: is(4),
            disable_x509_svid_prefetch: is(8),
            jwt_svid_include_jti: is(16),
            revision: at.parse(next()?)?,
            created_at: UnixTime(at.parse(next()?)?),
            hint: next()?.to_owned(),
        })
    }
}

#[derive(FromRow)]
pub(super) struct ClassRow {
    name: String,
    parent_id: String,
    selectors: String,
    x509_svid_ttl: i64,
    any_node: bool,
    revision: i64,
    created_at: i64,
}

impl TryFrom<ClassRow> for Class {
    type Error = StoreError;

    fn try_from(row: ClassRow) -> Result<Self, StoreError> {
        let at = At { table: "classes", key: &row.name };
        Ok(Self {
            name: at.parse::<ClassName>(&row.name)?,
            parent_id: at.parse(&row.parent_id)?,
            selectors: at.selectors(&row.selectors)?,
            x509_svid_ttl: row.x509_svid_ttl,
            node_proof: if row.any_node { NodeProof::AnyNode } else { NodeProof::Hardware },
            revision: row.revision,
            created_at: UnixTime(row.created_at),
        })
    }
}

#[derive(FromRow)]
pub(super) struct NodeRow {
    id: String,
    attestation_type: String,
    standing: String,
    reason: String,
    current_serial: Option<String>,
    current_expires_at: Option<i64>,
    fresh_serial: Option<String>,
    fresh_expires_at: Option<i64>,
    selectors: String,
    can_reattest: bool,
    agent_version: String,
    attested_at: i64,
    version: i64,
    boot: Vec<u8>,
    ek_hash: Option<Vec<u8>>,
    ak_name: Option<Vec<u8>>,
    activated_at: Option<i64>,
    boot_state: Option<String>,
    key_sha256: Option<Vec<u8>>,
    key_source: Option<String>,
}

impl TryFrom<NodeRow> for Node {
    type Error = StoreError;

    fn try_from(row: NodeRow) -> Result<Self, StoreError> {
        let at = At { table: "nodes", key: &row.id };
        let tpm = match (row.ek_hash, row.ak_name, row.activated_at, row.boot_state) {
            (Some(ek), Some(ak_name), Some(activated), Some(boot)) => Some(TpmBinding {
                ek_hash: at.hash(ek)?,
                ak_name,
                activated_at: UnixTime(activated),
                before: at.json::<BootJson>(&boot)?.before.map(|before| before.state(&at)).transpose()?,
                boot: at.json::<BootJson>(&boot)?.state(&at)?,
            }),
            (None, None, None, None) => None,
            _ => return Err(at.fault("half a TPM binding")),
        };
        let key_sha256 = row.key_sha256.map(|hash| at.hash(hash)).transpose()?;
        let source = row.key_source.unwrap_or_default();
        let pkcs11 = key_sha256.map(|key_sha256| KeyBinding { key_sha256, source });
        Ok(Self {
            id: at.parse(&row.id)?,
            standing: at.parse(&row.standing)?,
            reason: row.reason,
            current: cert(row.current_serial, row.current_expires_at),
            fresh: cert(row.fresh_serial, row.fresh_expires_at),
            selectors: at.selectors(&row.selectors)?,
            can_reattest: row.can_reattest,
            agent_version: row.agent_version,
            attested_at: UnixTime(row.attested_at),
            version: row.version,
            boot: row.boot,
            tpm,
            pkcs11,
            attestation_type: row.attestation_type,
        })
    }
}

fn cert(serial: Option<String>, expires_at: Option<i64>) -> Option<CertRef> {
    Some(CertRef { serial: serial?, expires_at: UnixTime(expires_at?) })
}

/// A boot state as JSON: 64-bit counters as numbers would pass 2^53, so they are texts.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BootJson {
    reset_count: u32,
    restart_count: u32,
    clock: String,
    safe: bool,
    firmware_version: String,
    pcrs: BTreeMap<u32, String>,
    log_digest: Option<String>,
    /// The one accepted before; it names no further one.
    #[serde(default)]
    before: Option<Box<Self>>,
}

/// The boot states of a binding as JSON text.
pub(super) fn boot_text(tpm: &TpmBinding) -> String {
    let before = tpm.before.as_ref().map(|before| Box::new(boot_json(before, None)));
    serde_json::json!(boot_json(&tpm.boot, before)).to_string()
}

fn boot_json(boot: &BootState, before: Option<Box<BootJson>>) -> BootJson {
    BootJson {
        reset_count: boot.reset_count,
        restart_count: boot.restart_count,
        clock: boot.clock.to_string(),
        safe: boot.safe,
        firmware_version: boot.firmware_version.to_string(),
        pcrs: boot.pcrs.iter().map(|(index, digest)| (*index, hex::encode(digest))).collect(),
        log_digest: boot.log_digest.map(hex::encode),
        before,
    }
}

impl BootJson {
    fn state(&self, at: &At<'_>) -> Result<BootState, StoreError> {
        let digest = |hex_text: &str| at.hash(hex::decode(hex_text).map_err(|e| at.fault(e))?);
        Ok(BootState {
            reset_count: self.reset_count,
            restart_count: self.restart_count,
            clock: at.parse(&self.clock)?,
            safe: self.safe,
            firmware_version: at.parse(&self.firmware_version)?,
            pcrs: self.pcrs.iter().map(|(index, d)| Ok((*index, digest(d)?))).collect::<Result<_, StoreError>>()?,
            log_digest: self.log_digest.as_deref().map(digest).transpose()?,
        })
    }
}

#[derive(FromRow)]
pub(super) struct InstanceRow {
    id: String,
    class: String,
    node_id: String,
    start_token: Vec<u8>,
    standing: String,
    begun_at: i64,
    ended_at: Option<i64>,
    end_reason: String,
    serial: String,
    expires_at: i64,
    held_until: Option<i64>,
}

impl TryFrom<InstanceRow> for Instance {
    type Error = StoreError;

    fn try_from(row: InstanceRow) -> Result<Self, StoreError> {
        let at = At { table: "instances", key: &row.id };
        Ok(Self {
            id: at.parse::<SpiffeId>(&row.id)?,
            class: at.parse(&row.class)?,
            node_id: at.parse(&row.node_id)?,
            start_token: at.hash(row.start_token)?,
            standing: at.parse(&row.standing)?,
            begun_at: UnixTime(row.begun_at),
            ended_at: row.ended_at.map(UnixTime),
            end_reason: row.end_reason,
            newest: CertRef { serial: row.serial, expires_at: UnixTime(row.expires_at) },
            held_until: row.held_until.map(UnixTime),
        })
    }
}

#[derive(FromRow)]
pub(super) struct AuthorityRow {
    id: String,
    kind: String,
    server: String,
    state: String,
    public: Vec<u8>,
    not_before: i64,
    not_after: i64,
    label: String,
    chain: Vec<u8>,
    upstream_id: String,
    published_at: i64,
    tainted_at: Option<i64>,
}

impl TryFrom<AuthorityRow> for Authority {
    type Error = StoreError;

    fn try_from(row: AuthorityRow) -> Result<Self, StoreError> {
        let at = At { table: "authorities", key: &row.id };
        Ok(Self {
            kind: at.parse(&row.kind)?,
            server: row.server,
            state: at.parse(&row.state)?,
            public: row.public,
            not_before: UnixTime(row.not_before),
            not_after: UnixTime(row.not_after),
            label: row.label,
            chain: row.chain,
            upstream_id: row.upstream_id,
            published_at: UnixTime(row.published_at),
            tainted_at: row.tainted_at.map(UnixTime),
            id: row.id,
        })
    }
}

#[derive(FromRow)]
pub(super) struct GuestRow {
    source: String,
    kind: String,
    id: String,
    public: Vec<u8>,
    not_after: i64,
    published_at: i64,
    tainted_at: Option<i64>,
}

impl TryFrom<GuestRow> for Guest {
    type Error = StoreError;

    fn try_from(row: GuestRow) -> Result<Self, StoreError> {
        let at = At { table: "guest_authorities", key: &row.id };
        Ok(Self {
            kind: at.parse(&row.kind)?,
            source: row.source,
            public: row.public,
            not_after: UnixTime(row.not_after),
            published_at: UnixTime(row.published_at),
            tainted_at: row.tainted_at.map(UnixTime),
            id: row.id,
        })
    }
}

#[derive(FromRow)]
pub(super) struct KeyRow {
    label: String,
    kind: String,
    server: String,
    key_type: String,
    state: String,
    version: i64,
    spki: Option<Vec<u8>>,
    planned_at: i64,
    changed_at: i64,
    keep_until: Option<i64>,
    note: String,
}

impl TryFrom<KeyRow> for KeyRecord {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let at = At { table: "keys", key: &row.label };
        Ok(Self {
            kind: at.parse(&row.kind)?,
            server: row.server,
            key_type: at.parse(&row.key_type)?,
            state: at.parse(&row.state)?,
            version: row.version,
            spki: row.spki,
            planned_at: UnixTime(row.planned_at),
            changed_at: UnixTime(row.changed_at),
            keep_until: row.keep_until.map(UnixTime),
            note: row.note,
            label: row.label,
        })
    }
}

#[derive(FromRow)]
pub(super) struct AnchorRow {
    fingerprint: String,
    der: Vec<u8>,
    subject: String,
    manufacturer: String,
    not_after: i64,
    note: String,
    imported_at: i64,
}

impl From<AnchorRow> for Anchor {
    fn from(row: AnchorRow) -> Self {
        Self {
            fingerprint: row.fingerprint,
            der: row.der,
            subject: row.subject,
            manufacturer: row.manufacturer,
            not_after: UnixTime(row.not_after),
            note: row.note,
            imported_at: UnixTime(row.imported_at),
        }
    }
}

#[derive(FromRow)]
pub(super) struct EnrolmentRow {
    ek_hash: Vec<u8>,
    note: String,
    enrolled_at: i64,
}

impl TryFrom<EnrolmentRow> for Enrolment {
    type Error = StoreError;

    fn try_from(row: EnrolmentRow) -> Result<Self, StoreError> {
        let key = hex::encode(&row.ek_hash);
        let ek_hash = At { table: "enrolments", key: &key }.hash(row.ek_hash)?;
        Ok(Self { ek_hash, note: row.note, enrolled_at: UnixTime(row.enrolled_at) })
    }
}

#[derive(FromRow)]
pub(super) struct KeyEnrolmentRow {
    key_sha256: Vec<u8>,
    note: String,
    enrolled_at: i64,
}

impl TryFrom<KeyEnrolmentRow> for KeyEnrolment {
    type Error = StoreError;

    fn try_from(row: KeyEnrolmentRow) -> Result<Self, StoreError> {
        let key = hex::encode(&row.key_sha256);
        let key_sha256 = At { table: "key_enrolments", key: &key }.hash(row.key_sha256)?;
        Ok(Self { key_sha256, note: row.note, enrolled_at: UnixTime(row.enrolled_at) })
    }
}

#[derive(FromRow)]
pub(super) struct FederatedBundleRow {
    trust_domain: String,
    json: Vec<u8>,
    updated_at: i64,
}

impl TryFrom<FederatedBundleRow> for FederatedBundle {
    type Error = StoreError;

    fn try_from(row: FederatedBundleRow) -> Result<Self, StoreError> {
        let at = At { table: "federated_bundles", key: &row.trust_domain };
        let trust_domain = at.parse(&row.trust_domain)?;
        Ok(Self { trust_domain, json: row.json, updated_at: UnixTime(row.updated_at) })
    }
}

#[derive(FromRow)]
pub(super) struct EventRow {
    epoch: i64,
    number: i64,
    bytes: Vec<u8>,
    hash: Vec<u8>,
}

impl TryFrom<EventRow> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let key = format!("{}/{}", row.epoch, row.number);
        let hash = At { table: "events", key: &key }.hash(row.hash)?;
        Ok(Self { epoch: row.epoch, number: row.number, bytes: row.bytes, hash })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct LoggedRow {
    number: i64,
    kind: String,
    subject: String,
    bytes: Vec<u8>,
    hash: Vec<u8>,
}

impl TryFrom<LoggedRow> for Logged {
    type Error = StoreError;

    fn try_from(row: LoggedRow) -> Result<Self, StoreError> {
        let hash = At { table: "events", key: &row.number.to_string() }.hash(row.hash)?;
        Ok(Self { number: row.number, kind: row.kind, subject: row.subject, bytes: row.bytes, hash })
    }
}
