//! What the store keeps that the core has no type for.

use chancery_core::instance::Standing;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use serde::{Deserialize, Serialize};

/// A manufacturer CA that an operator imported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Anchor {
    /// Lower-case hex SHA-256 of `der`.
    pub fingerprint: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// Its subject, for people.
    pub subject: String,
    /// Manufacturer the EK certificate must carry, for example `id:00001014`; empty = any.
    pub manufacturer: String,
    /// End of its validity.
    pub not_after: UnixTime,
    /// The operator's words.
    pub note: String,
    /// When it was imported.
    pub imported_at: UnixTime,
}

/// What an authority signs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AuthorityKind {
    /// JWT-SVIDs.
    Jwt,
    /// X509-SVIDs.
    X509,
}

/// Where an authority is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorityState {
    /// Published and signing.
    Active,
    /// Published, signs no more.
    Old,
    /// Published, signs not yet.
    Prepared,
    /// An operator took it out of the bundle before its end.
    Revoked,
}

/// A key that may sign for the trust domain, as published in the bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// X.509: lower-case hex of the subject key identifier. JWT: the key ID.
    pub id: String,
    /// What it signs.
    pub kind: AuthorityKind,
    /// The server that holds the private key.
    pub server: String,
    /// Where it is in its life.
    pub state: AuthorityState,
    /// X.509: certificate DER. JWT: SubjectPublicKeyInfo DER.
    pub public: Vec<u8>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// Its key in the journal.
    pub label: String,
    /// Certificates that go along with a leaf, DER one after the other; empty where it is itself in the bundle.
    pub chain: Vec<u8>,
    /// Key ID of what signed it; empty where it signed itself.
    pub upstream_id: String,
    /// When it came into the bundle.
    pub published_at: UnixTime,
    /// Since when everything under it is to be replaced.
    pub tainted_at: Option<UnixTime>,
}

/// An authority of the trust domain whose key no server of this database has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guest {
    /// Who has it: ID of a downstream server's entry, or `upstream/` and our server that follows the one above.
    pub source: String,
    /// What it signs.
    pub kind: AuthorityKind,
    /// X.509: lower-case hex SHA-256 of the certificate. JWT: the key ID.
    pub id: String,
    /// X.509: certificate DER. JWT: SubjectPublicKeyInfo DER.
    pub public: Vec<u8>,
    /// End of its validity.
    pub not_after: UnixTime,
    /// When it came into the bundle.
    pub published_at: UnixTime,
    /// Since when everything under it is to be replaced.
    pub tainted_at: Option<UnixTime>,
}

impl Guest {
    /// Our server that follows the one above, whose authority this is.
    pub fn follower(&self) -> Option<&str> {
        self.source.strip_prefix("upstream/")
    }
}

/// Version of the trust domain's own bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BundleRevision {
    /// The log's epoch.
    pub epoch: i64,
    /// Grows with every change of the published authorities.
    pub revision: i64,
}

impl BundleRevision {
    /// `spiffe_sequence` = epoch x 2^32 + revision.
    pub fn sequence(self) -> u64 {
        let (epoch, revision) = (u64::try_from(self.epoch).unwrap_or(0), u64::try_from(self.revision).unwrap_or(0));
        (epoch << 32).saturating_add(revision)
    }
}

/// An operator's word that a device is ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolment {
    /// SHA-256 of the EK's SubjectPublicKeyInfo.
    pub ek_hash: [u8; 32],
    /// The operator's words.
    pub note: String,
    /// When it was enrolled.
    pub enrolled_at: UnixTime,
}

/// An operator's word that a token's attestation key is ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyEnrolment {
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_sha256: [u8; 32],
    /// The operator's words.
    pub note: String,
    /// When it was enrolled.
    pub enrolled_at: UnixTime,
}

/// Another trust domain's bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FederatedBundle {
    /// Whose it is.
    pub trust_domain: TrustDomain,
    /// SPIFFE bundle document, JSON.
    pub json: Vec<u8>,
    /// When it was stored.
    pub updated_at: UnixTime,
}

/// Which instances to list; all conditions hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InstanceFilter {
    /// Of this class.
    pub class: Option<String>,
    /// On this node.
    pub node_id: Option<SpiffeId>,
    /// In this standing.
    pub standing: Option<Standing>,
    /// With an ID greater than this; lists are in the order of the ID.
    pub after: Option<String>,
    /// At most this many; `None` = all.
    pub limit: Option<u32>,
}

/// One row of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredEvent {
    /// The log it belongs to.
    pub epoch: i64,
    /// Gap-free, from 0.
    pub number: i64,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 || bytes).
    pub hash: [u8; 32],
}

/// An event that changed what servers keep in memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Logged {
    /// Gap-free, from 0.
    pub number: i64,
    /// Dotted name.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 || bytes).
    pub hash: [u8; 32],
}

/// Such events of one read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    /// The log.
    pub epoch: i64,
    /// Nothing at or below this number is missing; -1 = the log is empty.
    pub until: i64,
    /// In order.
    pub changes: Vec<Logged>,
    /// The limit was reached.
    pub more: bool,
}

/// What one transaction of this server added to the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The log.
    pub epoch: i64,
    /// Number of its first event.
    pub first: i64,
    /// Number of its last event.
    pub until: i64,
    /// Those of its events that change what servers keep in memory, in order.
    pub changes: Vec<Logged>,
}

/// Where the log ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEnd {
    /// The log.
    pub epoch: i64,
    /// Number of the last event; -1 = none.
    pub number: i64,
    /// Its hash; empty for none.
    pub hash: Vec<u8>,
}

/// An event that a server knew to be committed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The log.
    pub epoch: i64,
    /// Its number.
    pub number: i64,
    /// Lower-case hex of its hash.
    pub hash: String,
}

/// What accepting a restored database did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The log that begins now.
    pub epoch: i64,
    /// Instances that ended.
    pub instances: u64,
    /// Nodes that must attest again.
    pub nodes: u64,
    /// Join tokens that are worth nothing any more.
    pub tokens: u64,
}

/// What `migrate` did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Migrated {
    /// Schema version before; 0 = empty database.
    pub from: i64,
    /// Schema version now.
    pub to: i64,
}

macro_rules! words {
    ($name:ident, $what:literal: $($variant:ident = $word:literal),*) => {
        impl $name {
            /// The word in the database and in events.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    other => Err(format!(concat!("unknown ", $what, " '{}'"), other)),
                }
            }
        }
    };
}

pub(super) use words;

words!(AuthorityKind, "authority kind": Jwt = "jwt", X509 = "x509");
words!(AuthorityState, "authority state": Active = "active", Old = "old", Prepared = "prepared",
    Revoked = "revoked");
