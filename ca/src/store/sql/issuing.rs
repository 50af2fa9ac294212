//! Issuances: a row of them is judged by what a handful of statements read for all, and written by as few.
//!
//! Each is judged as if it were alone and after those before it; one that is refused changes nothing of the others.
//! What is read here is read once the counter row is held: nobody else writes meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use chancery_core::{
    event::{Event, FIELD_REQUEST_ID, FIELD_TRACEPARENT},
    instance::Standing,
    node::CertRef,
};
use chancery_sdk::{id::SpiffeId, origin::Origin, time::UnixTime};
use sqlx::QueryBuilder;

use super::{
    Db, Tx, guard,
    many::{among, and_among, filled},
};
use crate::store::{
    AuthorityKind, AuthorityState, BeginInstance, EVERY_NODE, Fact, JwtSubject, RecordJwt, RecordX509, Refusal,
    RenewInstance, RenewalKey, StoreError,
};

const ACTIVE: &str = "SELECT id, kind FROM authorities WHERE state = $1 AND tainted_at IS NULL";
const NODES: &str = "SELECT id, standing, current_serial, fresh_serial FROM nodes WHERE id";
const ENTRIES: &str = "SELECT id, spiffe_id, revision FROM entries WHERE id";
const CLASSES: &str = "SELECT name, revision, any_node FROM classes WHERE name";
const INSTANCES: &str = "SELECT i.id, i.class, i.node_id, i.start_token, i.standing, c.revision, \
    i.held_until FROM instances i \
    LEFT JOIN classes c ON c.name = i.class WHERE i.id";
/// What an operator barred: closed classes as (class, node), revoked executables as ('', hash).
const CLOSED: &str = "SELECT class, node_id FROM class_closures WHERE class";
const EXECUTABLES: &str = " UNION ALL SELECT '', sha256 FROM revoked_executables WHERE sha256";
const KEYS: &str = "SELECT spki_sha256, instance_id FROM instance_keys WHERE spki_sha256";
const PROCESSES: &str = "SELECT node_id, start_token, id, standing FROM instances WHERE (node_id, start_token) IN (";
const LIVE: &str = "SELECT node_id, COUNT(*) FROM instances WHERE standing = 'good' AND node_id";

/// What became of one issuance.
pub(super) type Verdict = Result<Event, Refusal>;
type Token = [u8; 32];

/// Judges and writes issuances, in order.
pub(super) async fn apply(tx: &mut Tx, at: UnixTime, facts: &[Fact]) -> Result<Vec<Verdict>, StoreError> {
    let mut known = Known::read(tx, at, &Asked::of(facts)).await?;
    let mut writes = Writes::default();
    let verdicts = facts.iter().map(|fact| known.judge(fact, &mut writes)).collect();
    writes.write(tx).await?;
    Ok(verdicts)
}

/// What the facts name, each thing once.
#[derive(Default)]
struct Asked<'f> {
    nodes: BTreeSet<&'f str>,
    entries: BTreeSet<&'f str>,
    instances: BTreeSet<&'f str>,
    classes: BTreeSet<&'f str>,
    executables: BTreeSet<&'f str>,
    keys: BTreeSet<&'f Token>,
    processes: BTreeSet<(&'f str, &'f Token)>,
}

impl<'f> Asked<'f> {
    fn of(facts: &'f [Fact]) -> Self {
        let mut asked = Self::default();
        for fact in facts {
            match fact {
                Fact::BeginInstance(begin) => {
                    let instance = &begin.instance;
                    asked.nodes.insert(instance.node_id.as_str());
                    asked.instances.insert(instance.id.as_str());
                    asked.classes.insert(instance.class.as_str());
                    asked.executables.extend(begin.facts.get("sha256").map(String::as_str));
                    asked.keys.insert(&begin.spki_sha256);
                    asked.processes.insert((instance.node_id.as_str(), &instance.start_token));
                }
                Fact::RecordJwt(jwt) => {
                    asked.nodes.insert(jwt.node_id.as_str());
                    match &jwt.subject {
                        JwtSubject::Entry { id, .. } => asked.entries.insert(id),
                        JwtSubject::Instance { id, .. } => asked.instances.insert(id.as_str()),
                    };
                }
                Fact::RecordX509(svid) => {
                    asked.nodes.insert(svid.node_id.as_str());
                    asked.entries.insert(&svid.entry_id);
                }
                Fact::RenewInstance(renew) => {
                    asked.nodes.insert(renew.node_id.as_str());
                    asked.instances.insert(renew.id.as_str());
                    asked.keys.insert(&renew.spki_sha256);
                }
                _ => {}
            }
        }
        asked
    }
}

/// An instance as the guards see it.
struct Process {
    class: String,
    node: String,
    token: Vec<u8>,
    runs: bool,
    has_class: bool,
    /// Where it is held now.
    held_until: Option<UnixTime>,
}

/// What is so in this transaction, what it has written so far included.
struct Known {
    active: HashSet<(String, String)>,
    nodes: HashMap<String, (String, Option<String>, Option<String>)>,
    entries: HashMap<String, (String, i64)>,
    classes: HashMap<String, (i64, bool)>,
    barred: HashSet<(String, String)>,
    instances: HashMap<String, Process>,
    keys: HashMap<Vec<u8>, String>,
    processes: HashMap<(String, Vec<u8>), (String, bool)>,
    live: HashMap<String, i64>,
}

impl Known {
    async fn read(tx: &mut Tx, at: UnixTime, asked: &Asked<'_>) -> Result<Self, StoreError> {
        let active = sqlx::query_as(ACTIVE).bind(AuthorityState::Active.as_str()).fetch_all(&mut *tx).await?;
        let good = |standing: &str| standing == Standing::Good.as_str();
        let nodes: Vec<(String, String, Option<String>, Option<String>)> = rows(tx, NODES, &asked.nodes).await?;
        let entries: Vec<(String, String, i64)> = rows(tx, ENTRIES, &asked.entries).await?;
        let classes: Vec<(String, i64, bool)> = rows(tx, CLASSES, &asked.classes).await?;
        let instances: Vec<InstanceRow> = rows(tx, INSTANCES, &asked.instances).await?;
        let keys = match asked.keys.is_empty() {
            true => Vec::new(),
            false => {
                let keys = asked.keys.iter().map(|key| key.to_vec()).collect();
                among(KEYS, keys).build_query_as().fetch_all(&mut *tx).await?
            }
        };
        let instance = |(id, class, node, token, standing, revision, held): InstanceRow| {
            let held_until = held.map(UnixTime).filter(|until| *until > at);
            (id, Process { class, node, token, runs: good(&standing), has_class: revision.is_some(), held_until })
        };
        let (processes, live) = processes(tx, asked).await?;
        Ok(Self {
            active: active.into_iter().collect(),
            nodes: nodes.into_iter().map(|(id, standing, current, fresh)| (id, (standing, current, fresh))).collect(),
            entries: entries.into_iter().map(|(id, spiffe_id, revision)| (id, (spiffe_id, revision))).collect(),
            barred: barred(tx, asked).await?,
            classes: classes.into_iter().map(|(name, revision, any)| (name, (revision, any))).collect(),
            instances: instances.into_iter().map(instance).collect(),
            keys: keys.into_iter().collect(),
            processes: processes.into_iter().map(|(n, t, id, standing)| ((n, t), (id, good(&standing)))).collect(),
            live: live.into_iter().collect(),
        })
    }
}

type InstanceRow = (String, String, String, Vec<u8>, String, Option<i64>, Option<i64>);
type ProcessRow = (String, Vec<u8>, String, String);

/// Rows whose text key is asked for.
async fn rows<Row>(tx: &mut Tx, head: &str, keys: &BTreeSet<&str>) -> Result<Vec<Row>, StoreError>
where
    Row: for<'r> sqlx::FromRow<'r, <Db as sqlx::Database>::Row> + Send + Unpin,
{
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Ok(among(head, keys).build_query_as().fetch_all(&mut *tx).await?)
}

/// What of it an operator barred.
async fn barred(tx: &mut Tx, asked: &Asked<'_>) -> Result<HashSet<(String, String)>, StoreError> {
    let texts = |keys: &BTreeSet<&str>| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    if asked.classes.is_empty() {
        return Ok(HashSet::new());
    }
    let mut query = among(CLOSED, texts(&asked.classes));
    if !asked.executables.is_empty() {
        and_among(&mut query, EXECUTABLES, texts(&asked.executables));
    }
    let rows: Vec<(String, String)> = query.build_query_as().fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().collect())
}

/// What the processes that would begin were before, and how many instances their nodes run.
async fn processes(tx: &mut Tx, asked: &Asked<'_>) -> Result<(Vec<ProcessRow>, Vec<(String, i64)>), StoreError> {
    if asked.processes.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let pairs = asked.processes.iter().map(|(node, token)| (Some((*node).to_owned()), token.to_vec()));
    let mut query = QueryBuilder::<Db>::new(PROCESSES);
    query.push_values(filled(pairs.collect()), |mut row, (node, token)| {
        row.push_bind(node).push_bind(token);
    });
    query.push(")");
    let before = query.build_query_as().fetch_all(&mut *tx).await?;
    let nodes: BTreeSet<&str> = asked.processes.iter().map(|(node, _)| *node).collect();
    let mut live = among(LIVE, nodes.into_iter().map(str::to_owned).collect());
    live.push(" GROUP BY node_id");
    Ok((before, live.build_query_as().fetch_all(&mut *tx).await?))
}

impl Known {
    fn judge<'f>(&mut self, fact: &'f Fact, writes: &mut Writes<'f>) -> Verdict {
        match fact {
            Fact::BeginInstance(begin) => self.begin(begin, writes),
            Fact::RecordJwt(jwt) => self.jwt(jwt),
            Fact::RecordX509(svid) => self.x509(svid),
            Fact::RenewInstance(renew) => self.renew(renew, writes),
            // `Fact::is_issuance` lets nothing else come here.
            _ => Err(Refusal::NotFound),
        }
    }

    /// The node is good and came with its current or fresh certificate; the authority is active.
    fn issuing(&self, node: &SpiffeId, serial: &str, authority: &str, kind: AuthorityKind) -> Result<(), Refusal> {
        let (standing, current, fresh) = self.nodes.get(node.as_str()).ok_or(Refusal::NodeNotGood)?;
        guard::stands(standing, current.as_deref(), fresh.as_deref(), serial)?;
        let active = self.active.contains(&(authority.to_owned(), kind.as_str().to_owned()));
        if active { Ok(()) } else { Err(Refusal::AuthorityNotActive) }
    }

    /// The entry is unchanged; answers its SPIFFE ID.
    fn entry(&self, id: &str, revision: i64) -> Result<&str, Refusal> {
        let (spiffe_id, stored) = self.entries.get(id).ok_or(Refusal::EntryGone)?;
        if *stored == revision { Ok(spiffe_id) } else { Err(Refusal::Stale) }
    }

    /// The instance runs, on this node, as this process, is not held, and its class is there; answers the class.
    fn running(&self, id: &SpiffeId, node: &SpiffeId, token: &Token) -> Result<&str, Refusal> {
        let known = self
            .instances
            .get(id.as_str())
            .filter(|known| known.runs && known.node == node.as_str() && known.token.as_slice() == token.as_slice());
        let known = known.ok_or(Refusal::InstanceNotGood)?;
        if let Some(until) = known.held_until {
            return Err(Refusal::InstanceHeld { until });
        }
        if known.has_class { Ok(&known.class) } else { Err(Refusal::ClassGone) }
    }

    fn x509(&self, fact: &RecordX509) -> Verdict {
        self.issuing(&fact.node_id, &fact.node_serial, &fact.authority, AuthorityKind::X509)?;
        let spiffe_id = self.entry(&fact.entry_id, fact.entry_revision)?;
        Ok(Event::new("svid.issued", spiffe_id)
            .with("authority", fact.authority.as_str())
            .with("entry", fact.entry_id.as_str())
            .with("entry_revision", fact.entry_revision)
            .with("expires_at", fact.cert.expires_at.0)
            .with("node", fact.node_id.as_str())
            .with("serial", fact.cert.serial.as_str()))
    }

    fn jwt(&self, fact: &RecordJwt) -> Verdict {
        self.issuing(&fact.node_id, &fact.node_serial, &fact.authority, AuthorityKind::Jwt)?;
        let event = match &fact.subject {
            JwtSubject::Entry { id, revision } => {
                let spiffe_id = self.entry(id, *revision)?;
                Event::new("jwt.issued", spiffe_id).with("entry", id.as_str()).with("entry_revision", *revision)
            }
            JwtSubject::Instance { id, start_token } => {
                let class = self.running(id, &fact.node_id, start_token)?;
                Event::new("jwt.issued", id.as_str()).with("class", class)
            }
        };
        let event = event
            .with("audience", fact.audience.clone())
            .with("authority", fact.authority.as_str())
            .with("expires_at", fact.expires_at.0)
            .with("node", fact.node_id.as_str());
        Ok(from(event, &fact.origin))
    }

    fn begin<'f>(&mut self, fact: &'f BeginInstance, writes: &mut Writes<'f>) -> Verdict {
        let instance = &fact.instance;
        self.issuing(&instance.node_id, &fact.node_serial, &fact.authority, AuthorityKind::X509)?;
        let (revision, any_node) = *self.classes.get(instance.class.as_str()).ok_or(Refusal::ClassGone)?;
        if revision != fact.class_revision {
            return Err(Refusal::ClassGone);
        }
        self.free(fact)?;
        self.took(fact);
        writes.begun.push(fact);
        writes.keys.push((&fact.spki_sha256, instance.id.as_str()));
        Ok(begun(fact, any_node))
    }

    /// ID, process and key were never used, and the node has room.
    fn free(&self, fact: &BeginInstance) -> Result<(), Refusal> {
        let instance = &fact.instance;
        if self.instances.contains_key(instance.id.as_str()) {
            return Err(Refusal::AlreadyExists(None));
        }
        match self.processes.get(&process(fact)) {
            Some((_, true)) => return Err(Refusal::StartTokenUsed),
            Some((id, false)) => return Err(Refusal::ProcessEnded(id.clone())),
            None => {}
        }
        self.open(fact)?;
        if self.keys.contains_key(fact.spki_sha256.as_slice()) {
            return Err(Refusal::KeyUsed);
        }
        let live = self.live.get(instance.node_id.as_str()).copied().unwrap_or(0);
        if live < fact.max_live { Ok(()) } else { Err(Refusal::TooManyLive { max: fact.max_live }) }
    }

    /// No operator closed the class here, or revoked the executable.
    fn open(&self, fact: &BeginInstance) -> Result<(), Refusal> {
        let barred = |group: &str, name: &str| self.barred.contains(&(group.to_owned(), name.to_owned()));
        let (class, node) = (fact.instance.class.as_str(), fact.instance.node_id.as_str());
        if barred(class, node) || barred(class, EVERY_NODE) {
            return Err(Refusal::ClassClosed);
        }
        match fact.facts.get("sha256") {
            Some(sha256) if barred("", sha256) => Err(Refusal::ExecutableRevoked),
            Some(_) | None => Ok(()),
        }
    }

    /// What comes after it in this transaction meets it.
    fn took(&mut self, fact: &BeginInstance) {
        let instance = &fact.instance;
        let (id, node) = (instance.id.to_string(), instance.node_id.to_string());
        self.processes.insert(process(fact), (id.clone(), true));
        self.keys.insert(fact.spki_sha256.to_vec(), id.clone());
        *self.live.entry(node.clone()).or_default() += 1;
        let class = instance.class.to_string();
        let token = instance.start_token.to_vec();
        self.instances.insert(id, Process { class, node, token, runs: true, has_class: true, held_until: None });
    }

    fn renew<'f>(&mut self, fact: &'f RenewInstance, writes: &mut Writes<'f>) -> Verdict {
        let id = fact.id.as_str();
        self.issuing(&fact.node_id, &fact.node_serial, &fact.authority, AuthorityKind::X509)?;
        let class = self.running(&fact.id, &fact.node_id, &fact.start_token)?.to_owned();
        match (self.keys.get(fact.spki_sha256.as_slice()), fact.key) {
            (Some(owner), _) if owner != id => return Err(Refusal::KeyUsed),
            (Some(_), _) => {}
            (None, RenewalKey::Own) => return Err(Refusal::KeyNew),
            (None, RenewalKey::New) => {
                self.keys.insert(fact.spki_sha256.to_vec(), id.to_owned());
                writes.keys.push((&fact.spki_sha256, id));
            }
        }
        writes.newest.insert(id, &fact.cert);
        Ok(Event::new("instance.renewed", id)
            .with("authority", fact.authority.as_str())
            .with("class", class)
            .with("expires_at", fact.cert.expires_at.0)
            .with("node", fact.node_id.as_str())
            .with("serial", fact.cert.serial.as_str())
            .with("spki_sha256", hex::encode(fact.spki_sha256)))
    }
}

fn process(fact: &BeginInstance) -> (String, Vec<u8>) {
    (fact.instance.node_id.to_string(), fact.instance.start_token.to_vec())
}

fn begun(fact: &BeginInstance, any_node: bool) -> Event {
    let instance = &fact.instance;
    let event = Event::new("instance.begun", instance.id.as_str())
        .with("allow_unproven_nodes", any_node)
        .with("authority", fact.authority.as_str())
        .with("class", instance.class.as_str())
        .with("class_revision", fact.class_revision)
        .with("expires_at", instance.newest.expires_at.0)
        .with("node", instance.node_id.as_str())
        .with("pid_proof", fact.pid_proof.as_str())
        .with("serial", instance.newest.serial.as_str())
        .with("spki_sha256", hex::encode(fact.spki_sha256))
        .with("start_token", hex::encode(instance.start_token));
    let event = from(event, &fact.origin);
    fact.facts.iter().fold(event, |event, (name, value)| event.with_personal(name, value))
}

/// Names the request that it was for, where somebody did.
fn from(event: Event, origin: &Origin) -> Event {
    let event = origin.request_id().into_iter().fold(event, |event, id| event.with(FIELD_REQUEST_ID, id));
    origin.traceparent().into_iter().fold(event, |event, parent| event.with(FIELD_TRACEPARENT, parent))
}

/// What is written once all are judged.
#[derive(Default)]
struct Writes<'f> {
    begun: Vec<&'f BeginInstance>,
    keys: Vec<(&'f Token, &'f str)>,
    /// The newest SVID of each renewed instance.
    newest: HashMap<&'f str, &'f CertRef>,
}

impl Writes<'_> {
    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        if !self.begun.is_empty() {
            self.write_begun(tx).await?;
        }
        if !self.keys.is_empty() {
            let head = "INSERT INTO instance_keys (spki_sha256, instance_id) SELECT v.column1, v.column2 FROM (";
            let owned = self.keys.iter().map(|(key, id)| (Some(key.to_vec()), (*id).to_owned()));
            let mut insert = QueryBuilder::<Db>::new(head);
            insert.push_values(filled(owned.collect()), |mut row, (key, id)| {
                row.push_bind(key).push_bind(id);
            });
            insert.push(") AS v WHERE v.column1 IS NOT NULL");
            insert.build().execute(&mut *tx).await?;
        }
        if !self.newest.is_empty() {
            self.write_newest(tx).await?;
        }
        Ok(())
    }

    async fn write_begun(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const HEAD: &str = "INSERT INTO instances (id, class, node_id, start_token, standing, begun_at, end_reason, \
            serial, expires_at, sha256) SELECT v.column1, v.column2, v.column3, v.column4, 'good', v.column5, '', \
            v.column6, v.column7, v.column8 FROM (";
        let row = |fact: &&BeginInstance| {
            let one = &fact.instance;
            let texts = (Some(one.id.to_string()), one.class.to_string(), one.node_id.to_string());
            let (token, serial) = (one.start_token.to_vec(), one.newest.serial.clone());
            (texts, token, one.begun_at.0, serial, one.newest.expires_at.0, fact.facts.get("sha256").cloned())
        };
        let mut insert = QueryBuilder::<Db>::new(HEAD);
        let all = filled(self.begun.iter().map(row).collect());
        insert.push_values(all, |mut row, ((id, class, node), token, begun_at, serial, expires_at, sha256)| {
            row.push_bind(id).push_bind(class).push_bind(node).push_bind(token);
            row.push_bind(begun_at).push_bind(serial).push_bind(expires_at).push_bind(sha256);
        });
        insert.push(") AS v WHERE v.column1 IS NOT NULL");
        insert.build().execute(&mut *tx).await?;
        Ok(())
    }

    async fn write_newest(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const HEAD: &str = "UPDATE instances SET serial = v.column2, expires_at = v.column3 FROM (";
        let row = |(id, cert): (&&str, &&CertRef)| (Some((*id).to_owned()), cert.serial.clone(), cert.expires_at.0);
        let mut update = QueryBuilder::<Db>::new(HEAD);
        update.push_values(filled(self.newest.iter().map(row).collect()), |mut row, (id, serial, expires_at)| {
            row.push_bind(id).push_bind(serial).push_bind(expires_at);
        });
        update.push(") AS v WHERE instances.id = v.column1 AND instances.standing = 'good'");
        let changed = update.build().execute(&mut *tx).await?.rows_affected();
        guard::rows(changed, self.newest.len(), "instances")
    }
}
