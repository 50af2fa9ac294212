//! The database: guarded facts in, rows and the log out.
//!
//! It decides nothing: a use case decides, and the committing transaction re-checks under the counter row
//! that what was decided still holds. Every change is an event with a gap-free number, but for claims of server ids.
//! One SQL text serves SQLite and PostgreSQL: `sql/` is compiled once for each. Called by the use cases only.

mod claim;
mod crl;
mod durable;
mod error;
mod fact;
mod hold;
mod key;
mod log;
mod outcome;
mod postgres;
mod primary;
mod proposal;
mod recent;
mod record;
mod revocation;
mod rows;
mod sqlite;
mod stretch;

pub use claim::*;
pub use crl::{StoredCrl, Taken};
pub use durable::{Durability, Require};
pub use error::StoreError;
pub use fact::*;
pub use hold::*;
pub use key::*;
pub use log::*;
pub use outcome::{Outcome, Refusal};
pub use primary::Health;
pub use proposal::*;
pub use record::*;
pub use revocation::*;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use chancery_core::{class::Class, entry::Entry, instance::Instance, node::Node};
use chancery_daemon::clock;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use tokio::sync::{mpsc, oneshot, watch};

use self::recent::Recent;

/// Submissions waiting for the committer before callers wait at the door.
const QUEUE: usize = 1024;

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    back: Back,
    committer: mpsc::Sender<Message>,
    last: watch::Receiver<i64>,
    moved: watch::Receiver<i64>,
    announced: watch::Receiver<()>,
    listeners: Listeners,
    recent: Arc<Recent>,
    /// Reads so far, of any kind.
    reads: AtomicU64,
}

/// Who is told of each transaction, between its commit and the answers.
// Guards the list; held for one push or one round of calls, never over an await.
type Listeners = Arc<RwLock<Vec<Box<dyn Fn(&Committed) + Send + Sync>>>>;

/// What a committer tells the rest of its server.
struct Progress {
    /// Number of the newest event.
    last: watch::Sender<i64>,
    /// Number of this server's newest event that changed what is registered or published.
    moved: watch::Sender<i64>,
    /// On PostgreSQL another server announced one.
    announced: watch::Sender<()>,
    listeners: Listeners,
    recent: Arc<Recent>,
}

/// The receiving ends of a [`Progress`].
type Told = (watch::Receiver<i64>, watch::Receiver<i64>, watch::Receiver<()>);

/// Reads have a pool of their own; the committer owns the writing one.
enum Back {
    Postgres(Arc<primary::Primary>),
    Sqlite(sqlx::SqlitePool),
}

/// What the committer is told.
enum Message {
    Close(oneshot::Sender<()>),
    Facts(Vec<Fact>, Handed, oneshot::Sender<Result<Vec<Outcome>, StoreError>>),
}

/// When facts were handed over: what is in them was decided by the clock of that moment.
#[derive(Clone, Copy, Debug)]
struct Handed {
    wall: UnixTime,
    steady: Instant,
}

/// Which database a URL names.
enum Target<'a> {
    Postgres(&'a str),
    Sqlite(&'a str),
}

/// Runs `$body` with `$db` = the module of the database at hand.
macro_rules! read {
    ($self:expr, |$pool:ident, $db:ident| $body:expr) => {{
        $self.inner.reads.fetch_add(1, Ordering::Relaxed);
        match &$self.inner.back {
            Back::Postgres(primary) => {
                use postgres as $db;
                let pool = primary.line().reads.clone();
                let $pool = &pool;
                primary.read(async { $body }).await
            }
            Back::Sqlite($pool) => {
                use sqlite as $db;
                $body
            }
        }
    }};
}

impl Store {
    /// [`Store::open_requiring`] that a commit is durable on the database's machine.
    ///
    /// # Errors
    /// As there.
    pub async fn open(url: &str, server: &str) -> Result<Self, StoreError> {
        Self::open_requiring(url, server, Require::Durable, None).await
    }

    /// Opens the database at `url` (a path, `sqlite:PATH` or `postgres://...`, where several hosts may be named) and
    /// starts this server's committer.
    ///
    /// `server` is the name written into every event; a server of the database that lacks what was `seen` is not used.
    ///
    /// # Errors
    /// [`StoreError::Schema`] unless `migrate` brought the schema to this program's version, or a newer release to the
    /// next one; [`StoreError::Unfit`] where a commit does not survive what `require` names.
    pub async fn open_requiring(
        url: &str,
        server: &str,
        require: Require,
        seen: Option<&Seen>,
    ) -> Result<Self, StoreError> {
        let (committer, inbox) = mpsc::channel(QUEUE);
        let (listeners, recent) = (Listeners::default(), Arc::new(Recent::default()));
        let ((last, moved, announced), progress) = Progress::new(&listeners, &recent);
        let back = match Target::parse(url)? {
            Target::Postgres(url) => {
                Back::Postgres(postgres::open(url, server, (require, seen), inbox, progress).await?)
            }
            Target::Sqlite(path) => Back::Sqlite(sqlite::open(path, server, inbox, progress).await?),
        };
        let reads = AtomicU64::new(0);
        Ok(Self { inner: Arc::new(Inner { back, committer, last, moved, announced, listeners, recent, reads }) })
    }

    /// Brings the schema at `url` to this program's version; makes the SQLite file (0600) where there is none.
    ///
    /// # Errors
    /// [`StoreError::Migration`], with the schema as before the step that failed.
    pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
        match Target::parse(url)? {
            Target::Postgres(url) => postgres::migrate(url).await,
            Target::Sqlite(path) => sqlite::migrate(path).await,
        }
    }

    /// Accepts a restored database: a new epoch begins, after that of `seen`, an event
    /// that the database lacks, and its first event names `tree`, the last one that was signed; join tokens die, nodes must attest again, instances end. No server may be running.
    ///
    /// # Errors
    /// [`StoreError`]; nothing changed then.
    pub async fn accept_restore(
        url: &str,
        server: &str,
        seen: Option<&Seen>,
        tree: Option<LastTree>,
    ) -> Result<Accepted, StoreError> {
        match Target::parse(url)? {
            Target::Postgres(url) => postgres::accept_restore(url, server, seen, tree).await,
            Target::Sqlite(path) => sqlite::accept_restore(path, server, seen, tree).await,
        }
    }

    /// Commits everything handed over so far and closes; facts of other clones are refused from now on.
    pub async fn close(self) {
        let (done, wait) = oneshot::channel();
        if self.inner.committer.send(Message::Close(done)).await.is_ok() {
            // An error means that the committer is gone already, which is what we want.
            let _ = wait.await;
        }
        match &self.inner.back {
            Back::Postgres(primary) => primary.line().reads.close().await,
            Back::Sqlite(pool) => pool.close().await,
        }
    }

    /// Hands a fact to the committer and waits until it is durable or refused.
    ///
    /// Dropping the future changes nothing once the fact was handed over: it is committed or refused by itself.
    ///
    /// # Errors
    /// [`StoreError`] where the database could not be asked; a guard's no is [`Outcome::Refused`].
    pub async fn commit(&self, fact: Fact) -> Result<Outcome, StoreError> {
        self.commit_all(vec![fact]).await?.pop().ok_or(StoreError::Closed)
    }

    /// Hands facts over together, so that one transaction takes them; answers one outcome for each, in order.
    ///
    /// As [`Store::commit`] otherwise; one that is refused changes nothing of the others.
    ///
    /// # Errors
    /// [`StoreError`], of all of them.
    pub async fn commit_all(&self, facts: Vec<Fact>) -> Result<Vec<Outcome>, StoreError> {
        let (answer, wait) = oneshot::channel();
        let handed = self.inner.committer.send(Message::Facts(facts, Handed::now(), answer)).await;
        handed.map_err(|_| StoreError::Closed)?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    /// What is known of the database, as it changes; `None` for SQLite, which is a file of ours.
    pub fn health(&self) -> Option<watch::Receiver<Health>> {
        match &self.inner.back {
            Back::Postgres(primary) => Some(primary.health()),
            Back::Sqlite(_) => None,
        }
    }

    /// Has `listener` called after each commit of this server, before anybody is answered. It must not block.
    pub fn on_commit(&self, listener: impl Fn(&Committed) + Send + Sync + 'static) {
        self.inner.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// How often the database was read so far, outside the committing transactions.
    pub fn reads(&self) -> u64 {
        self.inner.reads.load(Ordering::Relaxed)
    }

    /// The number of the newest event this server knows to be committed; -1 = none. Others' events may be newer.
    pub fn last_number(&self) -> watch::Receiver<i64> {
        self.inner.last.clone()
    }

    /// The number of the newest event of this server that changed what is registered or published.
    pub fn moved(&self) -> watch::Receiver<i64> {
        self.inner.moved.clone()
    }

    /// Changes when another server announces such an event, which some databases let it do.
    pub fn announced(&self) -> watch::Receiver<()> {
        self.inner.announced.clone()
    }

    /// At most `limit` events above `after` that changed what is registered or published.
    pub async fn changes(&self, after: i64, limit: u32) -> Result<Changes, StoreError> {
        read!(self, |pool, db| db::events::changes(pool, after, limit).await)
    }

    /// Where the log ends.
    pub async fn log_end(&self) -> Result<LogEnd, StoreError> {
        read!(self, |pool, db| db::events::end(pool).await)
    }

    /// The entry with this ID.
    pub async fn entry(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        read!(self, |pool, db| db::entries::one(pool, id).await)
    }

    /// The entries with these IDs, in no order; those that are gone are left out.
    pub async fn entries_of(&self, ids: &[&str]) -> Result<Vec<Entry>, StoreError> {
        read!(self, |pool, db| db::entries::of(pool, ids).await)
    }

    /// At most `limit` entries after the one of this ID (empty: from the first), in the database's order of the ID.
    pub async fn entries(&self, after: &str, limit: u32) -> Result<Vec<Entry>, StoreError> {
        read!(self, |pool, db| db::entries::after(pool, after, limit).await)
    }

    /// As [`Store::entries`], none after the one of the ID `until`.
    pub async fn entries_until(&self, after: &str, until: &str, limit: u32) -> Result<Vec<Entry>, StoreError> {
        read!(self, |pool, db| db::entries::until(pool, after, until, limit).await)
    }

    /// The ID that as many entries are before as after, give or take one; `None` where there is none.
    pub async fn middle_entry(&self) -> Result<Option<String>, StoreError> {
        read!(self, |pool, db| db::entries::middle(pool).await)
    }

    /// The class with this name.
    pub async fn class(&self, name: &str) -> Result<Option<Class>, StoreError> {
        read!(self, |pool, db| db::classes::one(pool, name).await)
    }

    /// Every class, in the order of the name.
    pub async fn classes(&self) -> Result<Vec<Class>, StoreError> {
        read!(self, |pool, db| db::classes::all(pool).await)
    }

    /// The node with this ID.
    pub async fn node(&self, id: &SpiffeId) -> Result<Option<Node>, StoreError> {
        read!(self, |pool, db| db::nodes::one(pool, id).await)
    }

    /// Every node, in the order of the ID.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        read!(self, |pool, db| db::nodes::all(pool).await)
    }

    /// How many nodes are in good standing, and how many instances run.
    pub async fn good_counts(&self) -> Result<(i64, i64), StoreError> {
        read!(self, |pool, db| db::nodes::good_counts(pool).await)
    }

    /// What is kept of an attestation under this digest: its document, or a message that one names.
    pub async fn kept_evidence(&self, sha256: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        read!(self, |pool, db| db::evidence::one(pool, sha256).await)
    }

    /// The node's last accepted evidence.
    pub async fn evidence(&self, node_id: &SpiffeId) -> Result<Option<Vec<u8>>, StoreError> {
        read!(self, |pool, db| db::nodes::evidence(pool, node_id).await)
    }

    /// The instance with this ID, running or not.
    pub async fn instance(&self, id: &SpiffeId) -> Result<Option<Instance>, StoreError> {
        read!(self, |pool, db| db::instances::one(pool, id).await)
    }

    /// The instances that the filter lets through, in the order of the ID.
    pub async fn instances(&self, filter: &InstanceFilter) -> Result<Vec<Instance>, StoreError> {
        read!(self, |pool, db| db::instances::filtered(pool, filter).await)
    }

    /// The instance that the process became, running or not.
    pub async fn instance_of(
        &self,
        node_id: &SpiffeId,
        start_token: &[u8; 32],
    ) -> Result<Option<Instance>, StoreError> {
        read!(self, |pool, db| db::instances::of_process(pool, node_id, start_token).await)
    }

    /// The instance this public key belongs to, for ever.
    pub async fn key_owner(&self, spki_sha256: &[u8; 32]) -> Result<Option<SpiffeId>, StoreError> {
        read!(self, |pool, db| db::instances::of_key(pool, spki_sha256).await)
    }

    /// The instances running on the node, in the order of the ID.
    pub async fn live_instances(&self, node_id: &SpiffeId) -> Result<Vec<Instance>, StoreError> {
        let standing = Some(chancery_core::instance::Standing::Good);
        self.instances(&InstanceFilter { node_id: Some(node_id.clone()), standing, ..InstanceFilter::default() }).await
    }

    /// The operator's word on this EK.
    pub async fn ek_enrolled(&self, ek_hash: &[u8; 32]) -> Result<Option<Enrolment>, StoreError> {
        read!(self, |pool, db| db::anchors::enrolment(pool, ek_hash).await)
    }

    /// The operator's word on this attestation key.
    pub async fn key_enrolled(&self, key_sha256: &[u8; 32]) -> Result<Option<KeyEnrolment>, StoreError> {
        read!(self, |pool, db| db::anchors::key_enrolment(pool, key_sha256).await)
    }

    /// Every anchor, in the order of the fingerprint.
    pub async fn anchors(&self) -> Result<Vec<Anchor>, StoreError> {
        read!(self, |pool, db| db::anchors::all(pool).await)
    }

    /// Every published authority, in the order of notBefore, then ID.
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        read!(self, |pool, db| db::authorities::all(pool).await)
    }

    /// Every authority, revoked ones included, in the order of notBefore, then ID.
    pub async fn every_authority(&self) -> Result<Vec<Authority>, StoreError> {
        read!(self, |pool, db| db::authorities::every(pool).await)
    }

    /// The authority with this ID, revoked or not.
    pub async fn authority(&self, id: &str) -> Result<Option<Authority>, StoreError> {
        read!(self, |pool, db| db::authorities::one(pool, id).await)
    }

    /// Every authority whose key is elsewhere, in the order of kind, ID, source.
    pub async fn guests(&self) -> Result<Vec<Guest>, StoreError> {
        read!(self, |pool, db| db::guests::all(pool).await)
    }

    /// The journal: every key there is or was, of every server, in the order of planning, then label.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        read!(self, |pool, db| db::keys::all(pool).await)
    }

    /// The server's keys that are not destroyed, in the order of planning, then label.
    pub async fn keys_of(&self, server: &str) -> Result<Vec<KeyRecord>, StoreError> {
        read!(self, |pool, db| db::keys::of_server(pool, server).await)
    }

    /// Which run of the server may write; `None` where none runs.
    pub async fn server_claim(&self, server: &str) -> Result<Option<ServerClaim>, StoreError> {
        read!(self, |pool, db| db::claims::one(pool, server).await)
    }

    /// The stored bundle of another trust domain.
    pub async fn federated_bundle(&self, domain: &TrustDomain) -> Result<Option<FederatedBundle>, StoreError> {
        read!(self, |pool, db| db::federation::one(pool, domain).await)
    }

    /// Every stored bundle of other trust domains, in the order of the name.
    pub async fn federated_bundles(&self) -> Result<Vec<FederatedBundle>, StoreError> {
        read!(self, |pool, db| db::federation::all(pool).await)
    }

    /// Version of the trust domain's own bundle.
    pub async fn bundle_revision(&self) -> Result<BundleRevision, StoreError> {
        read!(self, |pool, db| db::events::bundle_revision(pool).await)
    }

    /// At most `limit` rows of the list of what is revoked and valid by itself at `now`, after the one of this key.
    pub async fn revocations(&self, now: UnixTime, after: &str, limit: u32) -> Result<Vec<Revocation>, StoreError> {
        read!(self, |pool, db| db::revocations::listed(pool, now, after, limit).await)
    }

    /// How much the act that is the event of this kind and subject has hit.
    pub async fn hits(&self, kind: &str, subject: &str) -> Result<Hits, StoreError> {
        read!(self, |pool, db| db::revocations::hits(pool, kind, subject).await)
    }

    /// What entries had issued through the node and is valid at `now`, up to the end of the log.
    pub async fn under(&self, node: &SpiffeId, now: UnixTime) -> Result<Under, StoreError> {
        read!(self, |pool, db| db::revocations::under(pool, node.as_str(), now).await)
    }

    /// X.509 certificates of this serial number that are valid at `now`, with the kind of event that recorded each; of every
    /// authority where none is named.
    pub async fn certificates(
        &self,
        authority: Option<&str>,
        serial: &str,
        now: UnixTime,
    ) -> Result<Vec<(String, Issued)>, StoreError> {
        read!(self, |pool, db| db::revocations::certificates(pool, authority, serial, now).await)
    }

    /// Every class that is closed somewhere, in the order of class, then node.
    pub async fn closures(&self) -> Result<Vec<Closure>, StoreError> {
        read!(self, |pool, db| db::revocations::closures(pool).await)
    }

    /// Nodes on which the class is closed, [`EVERY_NODE`] among them, in no order.
    pub async fn closed_on(&self, class: &str) -> Result<Vec<String>, StoreError> {
        read!(self, |pool, db| db::revocations::closed_on(pool, class).await)
    }

    /// Every revoked executable, in the order of the hash.
    pub async fn revoked_executables(&self) -> Result<Vec<Executable>, StoreError> {
        read!(self, |pool, db| db::revocations::executables(pool).await)
    }

    /// At most `limit` holds that are in force at `now`, after the instance of this ID, in the order of the ID.
    pub async fn holds(&self, now: UnixTime, after: &str, limit: u32) -> Result<Vec<Hold>, StoreError> {
        read!(self, |pool, db| db::holds::listed(pool, now, after, limit).await)
    }

    /// At most `limit` proposals after the one of this epoch and number, in that order; `open`: only those not reviewed.
    pub async fn proposals(&self, after: (i64, i64), open: bool, limit: u32) -> Result<Vec<Proposal>, StoreError> {
        read!(self, |pool, db| db::proposals::listed(pool, after, open, limit).await)
    }

    /// Proposals in figures; the age of open ones at `now`.
    pub async fn proposal_figures(&self, now: UnixTime) -> Result<ProposalFigures, StoreError> {
        read!(self, |pool, db| db::proposals::figures(pool, now).await)
    }

    /// The newest list of every CA, in the order of the issuer.
    pub async fn crls(&self) -> Result<Vec<StoredCrl>, StoreError> {
        read!(self, |pool, db| db::crls::all(pool).await)
    }

    /// The newest list of this CA.
    pub async fn crl(&self, issuer: &str) -> Result<Option<StoredCrl>, StoreError> {
        read!(self, |pool, db| db::crls::one(pool, issuer).await)
    }

    /// At most `limit` certificates of the authority that are revoked and end after `after`, by serial.
    pub async fn taken_back(&self, authority: &str, after: UnixTime, limit: u32) -> Result<Vec<Taken>, StoreError> {
        read!(self, |pool, db| db::crls::taken(pool, authority, after, limit).await)
    }

    /// At most `limit` events of the current epoch with a number above `after` (`None` = from the first), in order.
    pub async fn events(&self, after: Option<i64>, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        read!(self, |pool, db| db::events::after(pool, after, limit).await)
    }
}

/// What the log of the record is made of, and what was signed of it.
impl Store {
    /// Who signs checkpoints.
    pub async fn log_lease(&self) -> Result<LogLease, StoreError> {
        read!(self, |pool, db| db::log::lease(pool).await)
    }

    /// The epoch's newest checkpoint.
    pub async fn last_checkpoint(&self, epoch: i64) -> Result<Option<StoredCheckpoint>, StoreError> {
        read!(self, |pool, db| db::log::last_checkpoint(pool, epoch).await)
    }

    /// At most `limit` checkpoints of the epoch of more than `after` events, the smallest first.
    pub async fn checkpoints(&self, epoch: i64, after: i64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        read!(self, |pool, db| db::log::checkpoints(pool, epoch, after, limit).await)
    }

    /// At most `limit` events of the epoch with a number above `after`, in order; fewer do not mean that there are no
    /// more, none does. What this server has just committed is not read again.
    pub async fn leaves(&self, epoch: i64, after: i64, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(recent) = self.inner.recent.after(epoch, after, limit) {
            return Ok(recent);
        }
        read!(self, |pool, db| db::log::leaves(pool, epoch, after, limit).await)
    }

    /// The next stretch of the log that can be made searchable: a full one, or the rest of an epoch that is over. `None`:
    /// there is none yet.
    pub async fn next_stretch(&self) -> Result<Option<IndexLog>, StoreError> {
        let (after, (epoch, next)) = read!(self, |pool, db| db::index::ends(pool).await)?;
        if after.0 == epoch && next - after.1 < stretch::EVENTS {
            return Ok(None);
        }
        let most = u32::try_from(stretch::EVENTS).unwrap_or(u32::MAX);
        // What is at hand is used only where it is a whole stretch: others' events may follow it.
        let recent = self.inner.recent.after(after.0, after.1 - 1, most);
        let events = match recent.filter(|events| events.len() >= most as usize) {
            Some(events) => events,
            None => read!(self, |pool, db| db::log::leaves(pool, after.0, after.1 - 1, most).await)?,
        };
        if let Some(made) = stretch::of(after, &events)? {
            return Ok(Some(made));
        }
        let next = self.next_epoch(after.0).await?;
        Ok(next.map(|epoch| IndexLog { after, until: (epoch, 0), first: 0, rows: Vec::new() }))
    }

    /// Forgets what was committed before the last call: it can be read by who needs it.
    pub fn age_recent(&self) {
        self.inner.recent.age();
    }

    /// The same, every column as it is.
    pub async fn record(&self, epoch: i64, after: i64, limit: u32) -> Result<Vec<RecordRow>, StoreError> {
        read!(self, |pool, db| db::log::record(pool, epoch, after, limit).await)
    }

    /// The clear values of the events with a number above `after` and up to `until`, in order.
    pub async fn clear_values(&self, epoch: i64, after: i64, until: i64) -> Result<Vec<ClearValue>, StoreError> {
        read!(self, |pool, db| db::log::clear_values(pool, epoch, after, until).await)
    }

    /// The first epoch above `after` that has an event or a checkpoint.
    pub async fn next_epoch(&self, after: i64) -> Result<Option<i64>, StoreError> {
        read!(self, |pool, db| db::log::next_epoch(pool, after).await)
    }
}

impl Handed {
    fn now() -> Self {
        Self { wall: clock::now(), steady: Instant::now() }
    }

    /// Errors where the clock was set meanwhile: the fact may hold times that are wrong by as much.
    fn clock_is_the_same(self) -> Result<(), StoreError> {
        let waited = i64::try_from(self.steady.elapsed().as_secs()).unwrap_or(i64::MAX);
        durable::agrees(self.wall.0.saturating_add(waited), clock::now())
            .map_err(|_| StoreError::Unfit("was not asked: our clock was set meanwhile; ask again".into()))
    }
}

impl Progress {
    fn new(listeners: &Listeners, recent: &Arc<Recent>) -> (Told, Self) {
        let ((last, told), (moved, stirred)) = (watch::channel(-1), watch::channel(-1));
        let (announced, heard) = watch::channel(());
        (
            (told, stirred, heard),
            Self { last, moved, announced, listeners: Arc::clone(listeners), recent: Arc::clone(recent) },
        )
    }

    /// Tells everybody what was committed; whoever is answered afterwards finds it in memory.
    fn committed(&self, committed: &Committed, registered: bool) {
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(committed);
        }
        self.last.send_replace(committed.until);
        if registered {
            self.moved.send_replace(committed.until);
        }
    }
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Result<Self, StoreError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url)),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path))),
            Some((scheme, _)) if !scheme.contains('/') => Err(StoreError::Url { scheme: scheme.into() }),
            _ => Ok(Self::Sqlite(url)),
        }
    }
}
