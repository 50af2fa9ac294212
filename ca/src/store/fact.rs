//! Facts: everything that can change in the database, each one guarded, atomic and recorded.
//!
//! A fact is decided elsewhere; the store re-checks under the counter row that it still may happen.

use std::{collections::BTreeMap, sync::Arc};

use chancery_core::{
    class::Class,
    entry::Entry,
    evidence::{Step, exchange::Kept},
    instance::Instance,
    node::{CertRef, Node},
    reason::Reason,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
    time::UnixTime,
};

use super::{
    Anchor, Authority, AuthorityKind, BeatClaim, DisputeLog, Guest, HoldInstance, IndexLog, LeaveLog, MoveKey, PlanKey,
    Propose, ReleaseClaim, ReleaseHold, ReopenClass, ReviewProposal, RevokeCertificate, RevokeClass, RevokeEntry,
    RevokeExecutable, RevokeInstance, RevokeNode, StoreCheckpoint, StoredCrl, TakeClaim, TakeLog,
};

/// One guarded business fact.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Prepared -> active; the server's active one of the kind -> old. Refused: `NotFound`, `Stale` (not prepared, or tainted).
    ActivateAuthority(AuthorityId),
    /// Fresh -> current on first use; nothing where it is current already. Refused: `NodeNotGood`, `SerialNotCurrent`.
    ActivateNodeSerial(ActivateNodeSerial),
    /// A node joins, or proves itself again.
    AdmitNode(AdmitNode),
    /// An operator bans a node. Refused: `NotFound`.
    BanNode(NodeRef),
    /// A run of a server lives. No event.
    BeatClaim(BeatClaim),
    /// A process becomes an instance.
    BeginInstance(BeginInstance),
    /// Refused: `AlreadyExists(None)`.
    CreateClass(Class),
    /// Refused: `AlreadyExists(Some)` for the equal entry, `AlreadyExists(None)` for its ID, `FederationUnknown`.
    CreateEntry(Entry),
    /// A join token, and with an agent ID its alias entry. Refused: `AlreadyExists(None)`, and as `CreateEntry`.
    CreateToken(CreateToken),
    /// Ends the class's instances too. Refused: `NotFound`.
    DeleteClass(ClassRef),
    /// Refused: `NotFound`.
    DeleteEntry(EntryRef),
    /// Refused: `NotFound`, `FederationInUse`.
    DeleteFederatedBundle(DeleteFederatedBundle),
    /// A node refuses a checkpoint of the record. Never refused.
    DisputeLog(DisputeLog),
    /// Refused: `NotFound` (or another node's), `InstanceNotGood` (ended before).
    EndInstance(EndInstance),
    /// Refused: `AlreadyExists(None)`.
    EnrolEk(EnrolEk),
    /// Refused: `AlreadyExists(None)`.
    EnrolKey(EnrolKey),
    /// Deletes the node (and a join-token node's alias). It may attest again. Refused: `NotFound`.
    EvictNode(NodeRef),
    /// Takes guests out of the bundle that have ended, or whose entry is gone. Never refused.
    ExpireGuests(Moment),
    /// Ends the instances of nodes whose certificates have all ended. Never refused.
    ExpireNodes(Moment),
    /// An attributable failure. A node that is unknown or banned keeps what it is; the failure is recorded.
    FailNode(FailNode),
    /// What the bundle of the server above has now; replaces what it had. Never refused.
    FollowUpstream(FollowUpstream),
    /// Nothing new for an instance, for a while; the end of an earlier hold is replaced. Refused: `NotFound`,
    /// `InstanceNotGood`, and a detector's: `HoldCapped`.
    HoldInstance(HoldInstance),
    /// Refused: `AlreadyExists(Some(fingerprint))`.
    ImportAnchor(Anchor),
    /// A stretch of the log can be searched. No event. Refused: `Stale` (somebody else did it).
    IndexLog(IndexLog),
    /// A run signs no more checkpoints. No event.
    LeaveLog(LeaveLog),
    /// A step of a key's life.
    MoveKey(MoveKey),
    /// A key is wanted.
    PlanKey(PlanKey),
    /// Publishes an authority. Refused: `AlreadyExists(None)`, `KeyNotGenerated`, `TooManyAuthorities`.
    PrepareAuthority(Authority),
    /// A detector's word on an instance, and its hold. Refused: `NotFound`, `InstanceNotGood`, `AlreadyExists(None)` (one is
    /// open), `TooManyProposals`.
    Propose(Propose),
    /// Deletes entries whose time is over. Never refused.
    PruneEntries(Moment),
    /// Deletes records whose time is over, some at a time. Never refused.
    PruneRecords(Moment),
    /// A downstream server's JWT key comes into the bundle. Refused: `EntryGone`, `Stale`, `KeyIdTaken`,
    /// `TooManyAuthorities`.
    PublishKey(PublishKey),
    /// The processes still alive on a node. Refused: `NodeNotGood`, `SerialNotCurrent`.
    Reconcile(Reconcile),
    /// A downstream server's CA was signed. Refused: `EntryGone`, `Stale`, `AuthorityNotActive`.
    RecordCa(RecordCa),
    /// A JWT-SVID was signed.
    RecordJwt(RecordJwt),
    /// An operator minted an SVID. Refused: `AuthorityNotActive`.
    RecordMint(RecordMint),
    /// An X509-SVID was signed. Refused: `NodeNotGood`, `SerialNotCurrent`, `EntryGone`, `Stale`, `AuthorityNotActive`.
    RecordX509(RecordX509),
    /// A summary of beginnings that an operator barred. Never refused.
    RefusedBeginnings(RefusedBeginnings),
    /// A summary of failures that touch no node. Never refused.
    RefusedStrangers(RefusedStrangers),
    /// A run of a server ends. No event.
    ReleaseClaim(ReleaseClaim),
    /// A hold ends before its time. Refused: `NotFound` (none is in force).
    ReleaseHold(ReleaseHold),
    /// Out of the bundle, and its key is condemned. Refused: `NotFound`, `Stale` (still active, or revoked).
    RemoveAuthority(RemoveAuthority),
    /// A new SVID of a running instance.
    RenewInstance(RenewInstance),
    /// A new node SVID without new proof. Refused: `NodeNotGood`, `SerialNotCurrent`, `AuthorityNotActive`.
    RenewNode(RenewNode),
    /// A closed class may begin again; what was revoked stays revoked. Refused: `NotFound` (not closed).
    ReopenClass(ReopenClass),
    /// Active -> old, still published. Refused: `NotFound`, `Stale` (not active).
    RetireAuthority(AuthorityId),
    /// An operator's word on a proposal. Refused: `NotFound`, `Stale` (reviewed before).
    ReviewProposal(ReviewProposal),
    /// A tainted authority, out of the bundle; its key is condemned. Refused: `NotFound`, `NotTainted`, `Stale`.
    RevokeAuthority(RevokeAuthority),
    /// One certificate. Never refused.
    RevokeCertificate(RevokeCertificate),
    /// Every run of a class, and the class begins nowhere. Refused: `NotFound`.
    RevokeClass(RevokeClass),
    /// An entry, and what was issued through it. Refused: `NotFound` (never was).
    RevokeEntry(RevokeEntry),
    /// Every run of an executable, and their classes where they ran; nothing of it begins again. Never refused.
    RevokeExecutable(RevokeExecutable),
    /// One run of a class, and the class on its node. Refused: `NotFound`.
    RevokeInstance(RevokeInstance),
    /// A ban, and what the node holds. Refused: `NotFound`.
    RevokeNode(RevokeNode),
    /// A server begins to serve. Never refused.
    ServerStarted(ServerStarted),
    /// As told by PostStatus. Refused: `NotFound`.
    SetAgentVersion(SetAgentVersion),
    /// Refused: `AlreadyExists(None)` or `NotFound`, as the mode says.
    SetFederatedBundle(SetFederatedBundle),
    /// A CA's newest list of what it takes back. Refused: `Stale` (one as new is there).
    SignCrl(StoredCrl),
    /// A checkpoint is signed. No event.
    StoreCheckpoint(StoreCheckpoint),
    /// Everything under it is to be replaced at once. Refused: `NotFound`, `Stale` (tainted, or revoked).
    TaintAuthority(TaintAuthority),
    /// A run of a server begins. No event.
    TakeClaim(TakeClaim),
    /// A run signs checkpoints from now on.
    TakeLog(TakeLog),
    /// `revision` is the new one. Refused: `NotFound`, `Stale`.
    UpdateClass(Class),
    /// `revision` is the new one; `created_at` is not written. Refused: `NotFound`, `Stale`, `FederationUnknown`.
    UpdateEntry(Entry),
}

impl Fact {
    /// Whether it is an SVID that was signed for a node: such facts come by the hundred.
    pub fn is_issuance(&self) -> bool {
        matches!(self, Self::BeginInstance(_) | Self::RecordJwt(_) | Self::RecordX509(_) | Self::RenewInstance(_))
    }
}

/// Names an authority.
#[derive(Clone, Debug)]
pub struct AuthorityId {
    /// See [`Authority::id`].
    pub id: String,
}

/// An authority whose time is over, or that never signed, leaves the bundle.
#[derive(Clone, Debug)]
pub struct RemoveAuthority {
    /// See [`Authority::id`].
    pub id: String,
    /// Its key is not destroyed before.
    pub keep_until: UnixTime,
}

/// An operator takes a tainted authority out of the bundle.
#[derive(Clone, Debug)]
pub struct RevokeAuthority {
    /// See [`Authority::id`].
    pub id: String,
    /// What it signs.
    pub kind: AuthorityKind,
    /// Its key is not destroyed before.
    pub keep_until: UnixTime,
    /// Who asked; kept apart from the record.
    pub caller: String,
}

/// A key is not to be trusted for longer than it takes to replace what it signed.
#[derive(Clone, Debug)]
pub struct TaintAuthority {
    /// See [`Authority::id`].
    pub id: String,
    /// What it signs.
    pub kind: AuthorityKind,
    /// Why: `operator`, `key differs from the journal`.
    pub why: &'static str,
    /// Who asked; kept apart from the record.
    pub caller: String,
}

/// Names a node.
#[derive(Clone, Debug)]
pub struct NodeRef {
    /// The node.
    pub id: SpiffeId,
}

/// Names an entry.
#[derive(Clone, Debug)]
pub struct EntryRef {
    /// The entry's ID.
    pub id: String,
}

/// Names a class.
#[derive(Clone, Debug)]
pub struct ClassRef {
    /// The class's name.
    pub name: String,
}

/// A point in time that a sweep compares with.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: UnixTime,
}

/// The node used its new certificate.
#[derive(Clone, Debug)]
pub struct ActivateNodeSerial {
    /// The node.
    pub id: SpiffeId,
    /// Serial it came with, decimal.
    pub serial: String,
}

/// A node was appraised and its certificate signed.
///
/// The certificate becomes `fresh` where the node is good and has a current one, else `current`.
/// Refused, in this order: `TokenUnknown`, `TokenExpired` (the token is spent even so), `AuthorityNotActive`,
/// `EkNotEnrolled`, `KeyNotEnrolled`, `AlreadyExists`/`NotFound`/`Stale` (expected version), `NodeNotGood` (banned),
/// `EkTaken`, `AkTaken`, `KeyTaken`, `SvidKeyTaken`.
#[derive(Clone, Debug)]
pub struct AdmitNode {
    /// What to store. `standing`, `reason`, `current`, `fresh`, `version`, `agent_version` and `boot` are the store's to set.
    pub node: Node,
    /// The certificate just signed.
    pub cert: CertRef,
    /// The authority that signed it.
    pub authority: String,
    /// Version the decision was made on; `None` = the node must not exist.
    pub expected_version: Option<i64>,
    /// Hex SHA-256 of the join token to spend.
    pub spend_token: Option<String>,
    /// The EK must be enrolled (`enrol = "inventory"`).
    pub require_enrolled: bool,
    /// The attestation key of the node's token must be enrolled: nobody else vouches for it.
    pub require_key_enrolled: bool,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub svid_key: [u8; 32],
    /// A new boot: the node's instances end.
    pub ends_instances: bool,
    /// Verdict of each check.
    pub steps: Vec<Step>,
    /// The boot log, for `policy explain` and `policy learn`.
    pub evidence: Option<Vec<u8>>,
    /// What was said; its digest stands in the record.
    pub kept: Option<KeptEvidence>,
    /// Address it came from; kept apart from the record.
    pub source: String,
}

/// Evidence, and how long it stays.
#[derive(Clone, Debug)]
pub struct KeptEvidence {
    /// What was said.
    pub what: Arc<Kept>,
    /// When it may be deleted.
    pub until: UnixTime,
}

/// A failure proven to be the node's own.
#[derive(Clone, Debug)]
pub struct FailNode {
    /// The node.
    pub id: SpiffeId,
    /// What failed.
    pub reason: Reason,
    /// Verdict of each check, the last one failed.
    pub steps: Vec<Step>,
    /// For the operator.
    pub detail: String,
    /// As in [`AdmitNode`].
    pub kept: Option<KeptEvidence>,
}

/// A new certificate of a node that cannot attest again.
#[derive(Clone, Debug)]
pub struct RenewNode {
    /// The node.
    pub id: SpiffeId,
    /// Serial it came with, decimal; must be the current one.
    pub current_serial: String,
    /// The certificate just signed; replaces an unused fresh one.
    pub fresh: CertRef,
    /// The authority that signed it.
    pub authority: String,
}

/// The attestor's version.
#[derive(Clone, Debug)]
pub struct SetAgentVersion {
    /// The node.
    pub id: SpiffeId,
    /// As told; at most 255 bytes.
    pub version: String,
}

/// A join token, as its hash.
#[derive(Clone, Debug)]
pub struct CreateToken {
    /// Lower-case hex SHA-256 of the token.
    pub hash_hex: String,
    /// When it ends.
    pub expires_at: UnixTime,
    /// The alias entry that gives the node its agent ID.
    pub alias: Option<Entry>,
}

/// An operator's word that a device is ours.
#[derive(Clone, Debug)]
pub struct EnrolEk {
    /// SHA-256 of the EK's SubjectPublicKeyInfo.
    pub ek_hash: [u8; 32],
    /// The operator's words.
    pub note: String,
}

/// An operator's word that a token's attestation key is ours.
#[derive(Clone, Debug)]
pub struct EnrolKey {
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_sha256: [u8; 32],
    /// The operator's words.
    pub note: String,
}

/// A process becomes an instance.
///
/// Refused, in this order: `NodeNotGood`, `SerialNotCurrent`, `AuthorityNotActive`, `ClassGone`, `AlreadyExists`,
/// `StartTokenUsed` or `ProcessEnded`, `ClassClosed`, `ExecutableRevoked`, `KeyUsed`, `TooManyLive`.
#[derive(Clone, Debug)]
pub struct BeginInstance {
    /// What to store.
    pub instance: Instance,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Serial the node came with, decimal.
    pub node_serial: String,
    /// Revision of the class the decision was made on.
    pub class_revision: i64,
    /// Most running instances on the node.
    pub max_live: i64,
    /// `peer-pidfd` or `start-time`.
    pub pid_proof: String,
    /// What the attestor saw of the process (pid, uid, gid, path, sha256); kept apart from the record.
    pub facts: BTreeMap<&'static str, String>,
    /// The request of somebody's that it began with.
    pub origin: Origin,
    /// The authority that signed.
    pub authority: String,
}

/// A new SVID of a running instance.
///
/// Refused, in this order: `NodeNotGood`, `SerialNotCurrent`, `AuthorityNotActive`, `InstanceNotGood`, `InstanceHeld`,
/// `ClassGone`, `KeyUsed`, `KeyNew`.
#[derive(Clone, Debug)]
pub struct RenewInstance {
    /// The instance.
    pub id: SpiffeId,
    /// Its node.
    pub node_id: SpiffeId,
    /// Its process.
    pub start_token: [u8; 32],
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Whether that may be a key the instance was not given before.
    pub key: RenewalKey,
    /// The certificate just signed.
    pub cert: CertRef,
    /// Serial the node came with, decimal.
    pub node_serial: String,
    /// The authority that signed.
    pub authority: String,
}

/// Which key a renewed SVID may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RenewalKey {
    /// One that nobody has, or the instance's own.
    New,
    /// One that the instance was given before: a beginning is asked for again.
    Own,
}

/// A process has ended, or an operator ends it.
#[derive(Clone, Debug)]
pub struct EndInstance {
    /// The instance.
    pub id: SpiffeId,
    /// The node that says so; `None` = an operator.
    pub node_id: Option<SpiffeId>,
    /// `process-ended`, `operator`.
    pub reason: &'static str,
}

/// What still runs on a node.
#[derive(Clone, Debug)]
pub struct Reconcile {
    /// The node.
    pub node_id: SpiffeId,
    /// Serial it came with, decimal.
    pub node_serial: String,
    /// Hash of the kernel's boot id; another one than last time ends every instance.
    pub boot: Vec<u8>,
    /// Processes still alive; the others' instances end.
    pub live_start_tokens: Vec<[u8; 32]>,
}

/// An X509-SVID of an entry was signed for a node.
#[derive(Clone, Debug)]
pub struct RecordX509 {
    /// The node that asked.
    pub node_id: SpiffeId,
    /// Serial it came with, decimal.
    pub node_serial: String,
    /// The entry.
    pub entry_id: String,
    /// Revision the decision was made on.
    pub entry_revision: i64,
    /// The certificate.
    pub cert: CertRef,
    /// The authority that signed.
    pub authority: String,
}

/// Whose JWT-SVID it is.
#[derive(Clone, Debug)]
pub enum JwtSubject {
    /// An entry's workload. Refused: `EntryGone`, `Stale`.
    Entry {
        /// The entry.
        id: String,
        /// Revision the decision was made on.
        revision: i64,
    },
    /// An instance. Refused: `InstanceNotGood`, `InstanceHeld`, `ClassGone`.
    Instance {
        /// The instance.
        id: SpiffeId,
        /// Its process.
        start_token: [u8; 32],
    },
}

/// A JWT-SVID was signed for a node. Refused: `NodeNotGood`, `SerialNotCurrent`, `AuthorityNotActive`, and the subject's.
#[derive(Clone, Debug)]
pub struct RecordJwt {
    /// The node that asked.
    pub node_id: SpiffeId,
    /// Serial it came with, decimal.
    pub node_serial: String,
    /// Whose it is.
    pub subject: JwtSubject,
    /// At least one.
    pub audience: Vec<String>,
    /// End of the token.
    pub expires_at: UnixTime,
    /// The request of somebody's that it was asked for.
    pub origin: Origin,
    /// The authority that signed.
    pub authority: String,
}

/// The CA of a downstream server was signed.
#[derive(Clone, Debug)]
pub struct RecordCa {
    /// The entry, marked downstream, whose SVID asked.
    pub entry_id: String,
    /// Revision the decision was made on.
    pub entry_revision: i64,
    /// SHA-256 of the CA's SubjectPublicKeyInfo.
    pub key_sha256: [u8; 32],
    /// The certificate.
    pub cert: CertRef,
    /// The authority that signed.
    pub authority: String,
}

/// A downstream server's JWT key comes into the bundle, or stays there longer.
#[derive(Clone, Debug)]
pub struct PublishKey {
    /// The entry, marked downstream, whose SVID asked.
    pub entry_id: String,
    /// Revision the decision was made on.
    pub entry_revision: i64,
    /// `kid` of its tokens.
    pub key_id: String,
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// End of its publication.
    pub not_after: UnixTime,
}

/// What the bundle of the server above has.
#[derive(Clone, Debug)]
pub struct FollowUpstream {
    /// Our server that follows.
    pub server: String,
    /// Both kinds, each once.
    pub authorities: Vec<Followed>,
}

/// An authority in the bundle of the server above.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Followed {
    /// What it signs.
    pub kind: AuthorityKind,
    /// See [`Guest::id`].
    pub id: String,
    /// X.509: certificate DER. JWT: SubjectPublicKeyInfo DER.
    pub public: Vec<u8>,
    /// End of its validity.
    pub not_after: UnixTime,
    /// The server above says that it is tainted.
    pub tainted: bool,
}

impl Followed {
    /// As a row of `source`; what was there `before` keeps its times.
    pub(super) fn guest(&self, source: &str, before: &[Guest], at: UnixTime) -> Guest {
        let same = before.iter().find(|g| g.kind == self.kind && g.id == self.id && g.public == self.public);
        Guest {
            source: source.into(),
            kind: self.kind,
            id: self.id.clone(),
            public: self.public.clone(),
            not_after: self.not_after,
            published_at: same.map_or(at, |g| g.published_at),
            tainted_at: self.tainted.then(|| same.and_then(|g| g.tainted_at).unwrap_or(at)),
        }
    }
}

/// An operator minted an SVID.
#[derive(Clone, Debug)]
pub struct RecordMint {
    /// Whose it is.
    pub id: SpiffeId,
    /// X.509 or JWT.
    pub kind: AuthorityKind,
    /// X.509: serial, decimal. JWT: empty.
    pub serial: String,
    /// JWT: at least one. X.509: none.
    pub audience: Vec<String>,
    /// End of the credential.
    pub expires_at: UnixTime,
    /// The authority that signed.
    pub authority: String,
    /// Who asked: `uid 0` or a SPIFFE ID; kept apart from the record.
    pub caller: String,
}

/// How a federated bundle is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetMode {
    /// Must be new.
    Create,
    /// New or not.
    Set,
    /// Must be there.
    Update,
}

/// Another trust domain's bundle.
#[derive(Clone, Debug)]
pub struct SetFederatedBundle {
    /// Whose it is.
    pub trust_domain: TrustDomain,
    /// SPIFFE bundle document, JSON.
    pub json: Vec<u8>,
    /// How to store it.
    pub mode: SetMode,
}

/// What becomes of entries that federate with a deleted bundle's domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteMode {
    /// They are deleted.
    Delete,
    /// They lose the association.
    Dissociate,
    /// Nothing is deleted while there are any.
    Restrict,
}

/// Another trust domain's bundle goes.
#[derive(Clone, Debug)]
pub struct DeleteFederatedBundle {
    /// Whose it is.
    pub trust_domain: TrustDomain,
    /// What becomes of entries.
    pub mode: DeleteMode,
}

/// A server begins to serve.
#[derive(Clone, Debug)]
pub struct ServerStarted {
    /// Version of the program.
    pub version: String,
}

/// Beginnings of one class on one node that an operator barred, since the last summary.
#[derive(Clone, Debug)]
pub struct RefusedBeginnings {
    /// SPIFFE ID of the node.
    pub node: String,
    /// Name of the class.
    pub class: String,
    /// The class is closed, or the executable revoked.
    pub reason: Reason,
    /// How often.
    pub count: u64,
    /// The newest of the processes; kept apart from the record.
    pub process: BTreeMap<&'static str, String>,
}

/// Failures within one second that touch no node.
#[derive(Clone, Debug)]
pub struct RefusedStrangers {
    /// Address prefix (IPv4 /24, IPv6 /48); kept apart from the record.
    pub source_prefix: String,
    /// What failed.
    pub reason: Reason,
    /// How often.
    pub count: u64,
    /// When.
    pub second: UnixTime,
}
