//! Revocation: who is never to be believed again, who says so, and the list of what is unexpired all the same.

use chancery_sdk::{id::SpiffeId, time::UnixTime};

/// The node of a closure that holds on every node.
pub const EVERY_NODE: &str = "*";

/// An operator's words, and who the operator is.
#[derive(Clone, Debug)]
pub struct Order {
    /// Why; stands in the record.
    pub reason: String,
    /// Who asked: `uid 0` or a SPIFFE ID; kept apart from the record.
    pub caller: String,
}

/// One run of a class is over, and its class begins no more on its node.
#[derive(Clone, Debug)]
pub struct RevokeInstance {
    /// The instance; one that has ended may hold SVIDs all the same.
    pub id: SpiffeId,
    /// Why and who.
    pub order: Order,
}

/// Every run of a class is over, and the class begins nowhere.
#[derive(Clone, Debug)]
pub struct RevokeClass {
    /// The class's name.
    pub name: String,
    /// Why and who.
    pub order: Order,
}

/// An entry goes, and what was issued through it is not to be accepted.
#[derive(Clone, Debug)]
pub struct RevokeEntry {
    /// The entry; one that was deleted may have SVIDs all the same.
    pub id: String,
    /// Why and who.
    pub order: Order,
}

/// A node is banned, and its SVIDs and instances are not to be accepted.
#[derive(Clone, Debug)]
pub struct RevokeNode {
    /// The node.
    pub id: SpiffeId,
    /// What entries had issued through it as well, as far as it was read before.
    pub under: Option<Under>,
    /// Why and who.
    pub order: Order,
}

/// What was issued through a node, up to a place in the log; the committing transaction reads on from there.
#[derive(Clone, Debug, Default)]
pub struct Under {
    /// Credentials of entries.
    pub issued: Vec<Issued>,
    /// Epoch and number of the last event that was looked at.
    pub read: (i64, i64),
}

/// An executable of which nothing is to run as an instance.
#[derive(Clone, Debug)]
pub struct RevokeExecutable {
    /// Lower-case hex SHA-256.
    pub sha256: String,
    /// Why and who.
    pub order: Order,
}

/// One certificate is not to be accepted; who holds it may be given another.
#[derive(Clone, Debug)]
pub struct RevokeCertificate {
    /// As the record of its issuance tells it: an X.509 certificate.
    pub issued: Issued,
    /// Why and who.
    pub order: Order,
}

/// A class may begin again.
#[derive(Clone, Debug)]
pub struct ReopenClass {
    /// SPIFFE ID of the node, or [`EVERY_NODE`] for the closure that holds everywhere.
    pub node: String,
    /// The class's name.
    pub class: String,
    /// Why and who.
    pub order: Order,
}

/// A credential as the event of its issuance tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issued {
    /// Whose it is.
    pub subject: String,
    /// When its record was committed.
    pub at: UnixTime,
    /// Its end.
    pub expires_at: UnixTime,
    /// The certificate; `None` = a token.
    pub certificate: Option<Certificate>,
}

/// Names a certificate.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Certificate {
    /// Lower-case hex of the issuer's key identifier.
    pub authority: String,
    /// Decimal.
    pub serial: String,
}

impl Certificate {
    /// As people write it: `AUTHORITY:SERIAL`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.authority, self.serial)
    }
}

/// What is not to be accepted, while it is valid by itself.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revoked {
    /// The SPIFFE ID.
    pub subject: String,
    /// What of it.
    pub what: What,
    /// From then on it is valid no more by itself.
    pub expires_at: UnixTime,
}

/// What of an ID is revoked.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum What {
    /// Everything that was ever issued for it.
    All,
    /// One certificate.
    Certificate(Certificate),
    /// JWT-SVIDs issued up to this moment.
    Tokens {
        /// The last second of issuing that is hit.
        issued_until: UnixTime,
    },
}

/// A row of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// What is revoked.
    pub revoked: Revoked,
    /// When.
    pub revoked_at: UnixTime,
    /// The operator's words, or the code of the node's failure.
    pub reason: String,
    /// Kind of the event that was the cause.
    pub cause_kind: String,
    /// Its subject.
    pub cause: String,
    /// Its number.
    pub number: i64,
    /// Place in the list, for paging.
    pub key: String,
}

/// A class that does not begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closure {
    /// Its name.
    pub class: String,
    /// SPIFFE ID of the node, or [`EVERY_NODE`].
    pub node: String,
    /// Since when.
    pub closed_at: UnixTime,
    /// The operator's words.
    pub reason: String,
}

/// An executable of which nothing begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executable {
    /// Lower-case hex SHA-256.
    pub sha256: String,
    /// Since when.
    pub revoked_at: UnixTime,
    /// The operator's words.
    pub reason: String,
}

/// How much one act has hit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hits {
    /// Instances.
    pub instances: i64,
    /// Certificates that were valid.
    pub certificates: i64,
    /// IDs whose tokens were valid; those of instances are in `instances`.
    pub token_ids: i64,
    /// From then on nothing of it is valid by itself; `None` where nothing was.
    pub until: Option<UnixTime>,
}
