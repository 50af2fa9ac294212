//! The kill switch: an operator's word against an instance, a class, an entry, a node or an executable.
//!
//! From the commit on no server releases anything new for what was hit: each issuing transaction asks again. What was
//! released before goes on the list that nodes and peers are sent (docs/REVOCATION.md).

use chancery_core::{class::ClassName, ids};
use chancery_sdk::id::SpiffeId;

pub use crate::store::{Closure, Executable, Issued, Order, Revocation, What};
use crate::{
    problem::Problem,
    state::State,
    store::{
        Certificate, EVERY_NODE, Fact, Hits, Refusal, ReopenClass, RevokeCertificate, RevokeClass, RevokeEntry,
        RevokeExecutable, RevokeInstance, RevokeNode,
    },
};

/// Longest reason in bytes.
const MAX_REASON_BYTES: usize = 1024;
/// Longest ID of an entry in bytes (SPIRE's limit).
const MAX_ENTRY_BYTES: usize = 255;
/// Digits of a serial number (RFC 5280, 4.1.2.2: 20 octets).
const MAX_SERIAL_DIGITS: usize = 49;
/// Rows of the list in one answer.
pub const MAX_PAGE: u32 = 1000;

/// What is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// One certificate; [`certificate`] finds it.
    Certificate(Issued),
    /// Every run of a class.
    Class(ClassName),
    /// An entry, by its ID.
    Entry(String),
    /// Every run of an executable, by its SHA-256.
    Executable([u8; 32]),
    /// One run.
    Instance(SpiffeId),
    /// A node and its instances.
    Node(SpiffeId),
    /// A node, its instances, and what entries had issued through it.
    Under(SpiffeId),
}

/// What an act has done.
#[derive(Clone, Debug)]
pub struct Done {
    /// Whose it was, where one certificate was named.
    pub subject: Option<String>,
    /// What it hit; as much as before where it was done before.
    pub hits: Hits,
    /// Classes that begin no more where it hit them.
    pub closed: Vec<Closure>,
    /// Connections of the node to this server that were closed.
    pub connections: usize,
}

/// The list, a page of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Unexpired rows.
    pub revocations: Vec<Revocation>,
    /// With the first page: classes that do not begin.
    pub closures: Vec<Closure>,
    /// With the first page: executables of which nothing begins.
    pub executables: Vec<Executable>,
}

/// Revokes; doing it twice is no error.
///
/// # Errors
/// [`Problem::Invalid`] without a reason or for an ID of the wrong kind, [`Problem::NotFound`].
pub async fn revoke(state: &State, target: Target, order: Order) -> Result<Done, Problem> {
    check_reason(&order.reason)?;
    let (kind, subject) = named(&target);
    let open = state.store.closures().await?;
    let fact = fact(state, &target, order).await?;
    match state.commit(fact).await?.done() {
        Ok(_) => {}
        Err(Refusal::NotFound) => {
            return Err(Problem::NotFound(format!("there is no such {}: {subject}", word(&target))));
        }
        Err(refusal) => return Err(refusal.into()),
    }
    // The view of every server closes them as well, as soon as it hears of it.
    let connections = match &target {
        Target::Node(id) | Target::Under(id) => state.live.close_where(|peer| peer.id.as_ref() == Some(id)),
        Target::Certificate(_) | Target::Class(_) | Target::Entry(_) | Target::Executable(_) | Target::Instance(_) => 0,
    };
    let hits = state.store.hits(kind, &subject).await?;
    let closed: Vec<Closure> = state.store.closures().await?.into_iter().filter(|one| !open.contains(one)).collect();
    tracing::warn!(
        what = kind,
        subject,
        instances = hits.instances,
        certificates = hits.certificates,
        "revoked by an operator"
    );
    let subject = match target {
        Target::Certificate(issued) => Some(issued.subject),
        _ => None,
    };
    Ok(Done { subject, hits, closed, connections })
}

/// The certificate of a serial number: `AUTHORITY:SERIAL`, or the decimal serial alone where only one valid one has it.
///
/// # Errors
/// [`Problem::Invalid`] for another form, or a node's own; [`Problem::NotFound`] where none is in the record and valid.
pub async fn certificate(state: &State, name: &str) -> Result<Target, Problem> {
    let (authority, serial) =
        name.split_once(':').map_or((None, name), |(authority, serial)| (Some(authority), serial));
    if serial.is_empty() || serial.len() > MAX_SERIAL_DIGITS || !serial.bytes().all(|b| b.is_ascii_digit()) {
        let form = "decimal digits, or the hex key identifier of its authority, ':' and decimal digits";
        return Err(Problem::Invalid(format!("serial: '{name}' is not a serial number: {form}")));
    }
    let authority = authority.map(str::to_ascii_lowercase);
    let mut found = state.store.certificates(authority.as_deref(), serial, state.now()).await?;
    match (found.pop(), found.pop()) {
        (None, _) => {
            let text = format!("no certificate of serial number {name} is in the record and valid");
            Err(Problem::NotFound(text))
        }
        (Some((_, one)), Some((_, other))) => {
            let both = [one, other].map(|one| one.certificate.as_ref().map(Certificate::name).unwrap_or_default());
            Err(Problem::Invalid(format!("serial: several certificates have it; name {} or {}", both[0], both[1])))
        }
        (Some((kind, one)), None) if kind.starts_with("node.") => Err(Problem::Invalid(format!(
            "serial: that is the SVID of a node; revoke the node: --node {}",
            one.subject
        ))),
        (Some((_, one)), None) => Ok(Target::Certificate(one)),
    }
}

/// What is committed. What entries had through a node is read before, so that the transaction reads little.
async fn fact(state: &State, target: &Target, order: Order) -> Result<Fact, Problem> {
    let invalid = |e: ids::PlaceError| Problem::Invalid(e.to_string());
    Ok(match target.clone() {
        Target::Certificate(issued) => Fact::RevokeCertificate(RevokeCertificate { issued, order }),
        Target::Class(name) => Fact::RevokeClass(RevokeClass { name: name.to_string(), order }),
        Target::Entry(id) => {
            if id.is_empty() || id.len() > MAX_ENTRY_BYTES {
                return Err(Problem::Invalid(format!("entry: an ID has 1 to {MAX_ENTRY_BYTES} bytes")));
            }
            Fact::RevokeEntry(RevokeEntry { id, order })
        }
        Target::Executable(sha256) => Fact::RevokeExecutable(RevokeExecutable { sha256: hex::encode(sha256), order }),
        Target::Instance(id) => Fact::RevokeInstance(RevokeInstance { id, order }),
        Target::Node(id) => {
            ids::check_node(&id, &state.trust_domain).map_err(invalid)?;
            Fact::RevokeNode(RevokeNode { id, under: None, order })
        }
        Target::Under(id) => {
            ids::check_node(&id, &state.trust_domain).map_err(invalid)?;
            let under = Some(state.store.under(&id, state.now()).await?);
            Fact::RevokeNode(RevokeNode { id, under, order })
        }
    })
}

/// Kind and subject of the event that is the act.
fn named(target: &Target) -> (&'static str, String) {
    match target {
        Target::Certificate(one) => {
            ("certificate.revoked", one.certificate.as_ref().map(Certificate::name).unwrap_or_default())
        }
        Target::Class(name) => ("class.closed", name.to_string()),
        Target::Entry(id) => ("entry.revoked", id.clone()),
        Target::Executable(sha256) => ("executable.revoked", hex::encode(sha256)),
        Target::Instance(id) => ("instance.revoked", id.to_string()),
        Target::Node(id) | Target::Under(id) => ("node.revoked", id.to_string()),
    }
}

fn word(target: &Target) -> &'static str {
    match target {
        Target::Certificate(_) => "certificate",
        Target::Class(_) => "class",
        Target::Entry(_) => "entry",
        Target::Executable(_) => "executable",
        Target::Instance(_) => "instance",
        Target::Node(_) | Target::Under(_) => "node",
    }
}

/// Lets a class begin again on a node, or, for [`EVERY_NODE`], takes back the closure that holds everywhere.
///
/// # Errors
/// [`Problem::Invalid`], [`Problem::NotFound`] where it is not closed there.
pub async fn reopen(state: &State, node: &str, class: &ClassName, order: Order) -> Result<(), Problem> {
    check_reason(&order.reason)?;
    if node != EVERY_NODE {
        SpiffeId::parse(node).map_err(|e| Problem::Invalid(format!("node: {e}; or '{EVERY_NODE}'")))?;
    }
    let fact = ReopenClass { node: node.into(), class: class.to_string(), order };
    match state.commit(Fact::ReopenClass(fact)).await?.done() {
        Ok(_) => Ok(()),
        Err(Refusal::NotFound) => {
            let text =
                format!("class '{class}' is not closed on {node}; `revocation list` shows where classes are closed");
            Err(Problem::NotFound(text))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// A page of the list, after the row of this key.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State, after: &str, limit: u32) -> Result<Listed, Problem> {
    let revocations = state.store.revocations(state.now(), after, limit.clamp(1, MAX_PAGE)).await?;
    if !after.is_empty() {
        return Ok(Listed { revocations, closures: Vec::new(), executables: Vec::new() });
    }
    let (closures, executables) = (state.store.closures().await?, state.store.revoked_executables().await?);
    Ok(Listed { revocations, closures, executables })
}

/// The words of an act are required, and of bounded length.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    match reason.len() {
        0 => Err(Problem::Invalid("reason: say why; it stands in the record".into())),
        1..=MAX_REASON_BYTES => Ok(()),
        long => Err(Problem::Invalid(format!("reason of {long} bytes exceeds {MAX_REASON_BYTES} bytes"))),
    }
}
