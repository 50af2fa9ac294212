//! Instances of agent classes: gather, decide, sign, commit, reply.
//!
//! What is returned has its record in the log already. Callers run these in a task of their own.

use std::{collections::BTreeMap, sync::Arc};

use chancery_core::{
    class::{Class, ClassName},
    csr::Csr,
    instance::{self, Bars, Begin, BeginFacts, Instance, InstanceError, Issuance, MAX_LIVE_PER_NODE, Standing},
    node::Node,
    reason::Reason,
    selector::Selectors,
};
use chancery_daemon::clock;
use chancery_sdk::{id::SpiffeId, origin::Origin};

use crate::{
    authority::IssuedX509,
    chance,
    issue::{Jwt, SIGN_TRIES, X509, committed, rotating},
    lifetimes::{self, node_cert},
    metrics::Metrics,
    problem::Problem,
    signing::Urgency,
    state::State,
    store::{
        BeginInstance, EndInstance, Fact, InstanceFilter, JwtSubject, Outcome, Reconcile, RecordJwt, Refusal,
        RenewInstance, RenewalKey,
    },
    view::{Offered, Registry, Running},
};

/// What an attestor sends of a process that asks for an identity.
#[derive(Clone, Debug)]
pub struct Process {
    /// The class it matches, as the attestor sees it.
    pub class: ClassName,
    /// Names the process on its node.
    pub start_token: [u8; 32],
    /// Its facts.
    pub selectors: Selectors,
    /// `peer-pidfd` or `start-time`.
    pub pid_proof: String,
    /// pid, uid, gid, path, sha256; kept apart from the record.
    pub facts: BTreeMap<&'static str, String>,
    /// The request of somebody's that its first call was for.
    pub origin: Origin,
}

/// What still runs on a node, after a reconciliation.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// Running instances.
    pub live: Vec<Instance>,
    /// How many were ended.
    pub ended: usize,
}

/// Classes whose instances may run on the node.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn classes(state: &State, node: &Node) -> Result<Vec<Offered>, Problem> {
    state.view.look(|registry| {
        registry.classes_of(node).into_iter().filter_map(|class| Registry::offered(node, class)).collect()
    })
}

/// Makes a process an instance; repeated with the same start token and key it answers the same instance.
///
/// # Errors
/// [`Problem`]; nothing was released. Source: ARCHITECTURE, Identities.
pub async fn begin(
    state: &Arc<State>,
    node: &Arc<Node>,
    process: &Arc<Process>,
    csr_der: &[u8],
) -> Result<X509, Problem> {
    for _ in 0..SIGN_TRIES {
        within_rate(state, &process.class)?;
        let (own, of, asks, csr) = (Arc::clone(state), Arc::clone(node), Arc::clone(process), csr_der.to_vec());
        let signed = state.signing.one(Urgency::First, move || begun(&own, &of, &asks, &csr)).await;
        let (fact, svid) = signed.flatten().inspect_err(|_| state.begins.give_back(&process.class))?;
        let refusal = match state.commit(fact).await? {
            Outcome::Done { .. } => {
                Metrics::count(&state.metrics.svids, "kind", "instance");
                return Ok(svid);
            }
            Outcome::Refused(refusal) => refusal,
        };
        match refusal {
            Refusal::ClassClosed => barred(state, node, process, Reason::ClassClosed),
            Refusal::ExecutableRevoked => barred(state, node, process, Reason::ExecutableRevoked),
            _ => {}
        }
        state.begins.give_back(&process.class);
        // Another call of the same process, a change of the class, or a rotation came between: look again.
        if !matches!(refusal, Refusal::StartTokenUsed | Refusal::ClassGone | Refusal::AuthorityNotActive) {
            return Err(refusal.into());
        }
    }
    Err(rotating())
}

/// Gathers, decides and signs a beginning; what to commit.
fn begun(state: &State, node: &Node, process: &Process, csr_der: &[u8]) -> Result<(Fact, X509), Problem> {
    let csr = Csr::parse(csr_der)?;
    let (classes, known, live, closed, executable) = state.view.look(|registry| {
        let classes: Vec<Class> = registry.classes_of(node).into_iter().cloned().collect();
        let known = registry.process(&node.id, &process.start_token).cloned();
        let is_closed = |class: &&ClassName| registry.is_closed(class.as_str(), &node.id);
        let closed: Vec<ClassName> = classes.iter().map(|class| &class.name).filter(is_closed).cloned().collect();
        let executable = process.facts.get("sha256").is_some_and(|hash| registry.is_revoked_executable(hash));
        (classes, known, registry.running_on(&node.id).count(), closed, executable)
    })?;
    let key = csr.spki_sha256();
    let facts = BeginFacts {
        domain: &state.trust_domain,
        node,
        classes: &classes.iter().collect::<Vec<_>>(),
        asked: &process.class,
        selectors: &process.selectors,
        // Where the view has not been told its key, the committing transaction knows it.
        same_key: known.as_ref().is_some_and(|known| known.key.is_none_or(|newest| newest == key)),
        known: known.as_ref().map(|known| &known.instance),
        live,
        bars: Bars { closed: &closed, executable },
    };
    let decided = instance::begin(facts, &csr, chance::uuid_v7()?, issuance(state, node)?);
    let decided = decided.inspect_err(|error| match error {
        InstanceError::ClassClosed(_) => barred(state, node, process, Reason::ClassClosed),
        InstanceError::ExecutableRevoked => barred(state, node, process, Reason::ExecutableRevoked),
        _ => {}
    })?;
    sign(state, node, process, &csr, decided)
}

/// An operator's word was in the way: for the record.
fn barred(state: &State, node: &Node, process: &Process, reason: Reason) {
    state.failures.barred(node.id.as_str(), process.class.as_str(), reason, &process.facts);
}

/// The class is known to exist here, so that no caller makes buckets.
fn within_rate(state: &State, class: &ClassName) -> Result<(), Problem> {
    if state.begins.take(class, clock::now_millis()) {
        return Ok(());
    }
    let limit = state.config.limits.begins_per_class;
    Err(Problem::Exhausted(format!("more than {limit} instances of {class} begin in a second; ask again in one")))
}

/// A new SVID of a running instance, for the same key or a new one.
///
/// # Errors
/// [`Problem`]; nothing was released.
pub async fn renew(
    state: &Arc<State>,
    node: &Arc<Node>,
    id: &SpiffeId,
    start_token: &[u8; 32],
    csr_der: &[u8],
) -> Result<X509, Problem> {
    let known = running(state, id).await?;
    let ttl = state.view.look(|registry| {
        let class = known.as_ref().and_then(|known| registry.class(known.instance.class.as_str()));
        class.map_or(0, |class| class.x509_svid_ttl)
    })?;
    let urgency = known.as_ref().map_or(Urgency::Unknown, |known| urgency(state, known, ttl));
    for _ in 0..SIGN_TRIES {
        let (own, of, known, csr) = (Arc::clone(state), Arc::clone(node), known.clone(), csr_der.to_vec());
        let token = *start_token;
        let sign = move || renewed(&own, &of, known.as_deref(), &token, ttl, &csr);
        let (fact, svid) = state.signing.one(urgency, sign).await??;
        if committed(state, fact).await? {
            Metrics::count(&state.metrics.svids, "kind", "instance");
            return Ok(svid);
        }
    }
    Err(rotating())
}

/// Decides and signs a renewal; what to commit.
fn renewed(
    state: &State,
    node: &Node,
    known: Option<&Running>,
    start_token: &[u8; 32],
    ttl: i64,
    csr_der: &[u8],
) -> Result<(Fact, X509), Problem> {
    let csr = Csr::parse(csr_der)?;
    let known = known.map(|known| &known.instance);
    let leaf = instance::renew(node, known, start_token, ttl, &csr, issuance(state, node)?)?;
    let issued = state.authority.sign_x509(&leaf)?;
    let fact = renewal(node, leaf.id(), *start_token, &csr, RenewalKey::New, &issued)?;
    Ok((fact, X509::new(leaf.id().clone(), issued)))
}

/// An SVID with less than a third of its life left may not outlast a queue that grows.
fn urgency(state: &State, known: &Running, ttl: i64) -> Urgency {
    let life = if ttl > 0 { ttl } else { state.config.ttl.instance_svid.as_secs() };
    let left = known.instance.newest.expires_at.since(state.now());
    if left < life / 3 { Urgency::Expiring } else { Urgency::Refresh }
}

/// The running instance `id`. One that the view does not know may have begun on another server a moment ago, and one that
/// is held may have been released there.
async fn running(state: &State, id: &SpiffeId) -> Result<Option<Arc<Running>>, Problem> {
    let look = || state.view.look(|registry| registry.instance(id).cloned());
    if let Some(known) = look()?
        && known.instance.held(state.now()).is_none()
    {
        return Ok(Some(known));
    }
    state.view.follow().await?;
    look()
}

/// A JWT-SVID of a running instance.
///
/// # Errors
/// [`Problem`]; nothing was released.
pub async fn jwt(
    state: &Arc<State>,
    node: &Arc<Node>,
    id: &SpiffeId,
    start_token: &[u8; 32],
    audience: &[String],
    origin: &Origin,
) -> Result<Jwt, Problem> {
    let known = running(state, id).await?;
    for _ in 0..SIGN_TRIES {
        let (own, of, known) = (Arc::clone(state), Arc::clone(node), known.clone());
        let (token, audience, origin) = (*start_token, audience.to_vec(), origin.clone());
        let sign = move || signed_jwt(&own, &of, known.as_deref(), &token, &audience, origin);
        let (fact, svid) = state.signing.one(Urgency::Unknown, sign).await??;
        if committed(state, fact).await? {
            Metrics::count(&state.metrics.svids, "kind", "jwt");
            return Ok(svid);
        }
    }
    Err(rotating())
}

/// Decides and signs a token; what to commit.
fn signed_jwt(
    state: &State,
    node: &Node,
    known: Option<&Running>,
    start_token: &[u8; 32],
    audience: &[String],
    origin: Origin,
) -> Result<(Fact, Jwt), Problem> {
    let issuance = Issuance {
        profile: lifetimes::jwt(&state.config.ttl)?,
        limits: lifetimes::jwt_limits(state, Some(node))?,
        serial: chance::serial()?,
        now: state.now(),
    };
    let grant = instance::jwt(node, known.map(|known| &known.instance), start_token, audience, issuance)?;
    let id = grant.id().clone();
    let issued = state.authority.sign_jwt(&grant)?;
    let fact = Fact::RecordJwt(RecordJwt {
        node_id: node.id.clone(),
        node_serial: node_cert(node)?.serial.clone(),
        subject: JwtSubject::Instance { id: id.clone(), start_token: *start_token },
        audience: grant.audience().to_vec(),
        expires_at: issued.expires_at,
        origin,
        authority: issued.authority_id.clone(),
    });
    Ok((fact, Jwt::new(id, issued, String::new())))
}

/// The process has ended; saying so twice is no error.
///
/// # Errors
/// [`Problem::NotFound`] where it is no instance of this node and process.
pub async fn end(state: &State, node: &Node, id: &SpiffeId, start_token: &[u8; 32]) -> Result<(), Problem> {
    let known = running(state, id).await?;
    if known.is_some_and(|known| known.instance.node_id != node.id || &known.instance.start_token != start_token) {
        return Err(unknown(id));
    }
    let fact = EndInstance { id: id.clone(), node_id: Some(node.id.clone()), reason: "process-ended" };
    match state.commit(Fact::EndInstance(fact)).await?.done() {
        Ok(_) | Err(Refusal::InstanceNotGood) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Ends every instance of the node whose process is not named; a new boot ends them all.
///
/// # Errors
/// [`Problem`].
pub async fn reconcile(
    state: &State,
    node: &Node,
    boot: Vec<u8>,
    live_start_tokens: Vec<[u8; 32]>,
) -> Result<Reconciled, Problem> {
    let before = on_node(state, node)?;
    let node_serial = node_cert(node)?.serial.clone();
    let fact = Reconcile { node_id: node.id.clone(), node_serial, boot, live_start_tokens };
    let number = state.commit(Fact::Reconcile(fact)).await?.done()?;
    // What other servers committed before counts as well.
    state.view.reached(number).await?;
    let live = on_node(state, node)?;
    let ended = before.iter().filter(|b| !live.iter().any(|l| l.id == b.id)).count();
    Ok(Reconciled { live, ended })
}

/// What runs on the node, in the order of the ID.
fn on_node(state: &State, node: &Node) -> Result<Vec<Instance>, Problem> {
    let all = |registry: &Registry| registry.running_on(&node.id).map(|running| running.instance.clone()).collect();
    let mut running: Vec<Instance> = state.view.look(all)?;
    running.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(running)
}

/// Instances that the filter lets through, in the order of the ID.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State, filter: &InstanceFilter) -> Result<Vec<Instance>, Problem> {
    Ok(state.store.instances(filter).await?)
}

/// The instance `id`, running or not.
///
/// # Errors
/// [`Problem::NotFound`].
pub async fn get(state: &State, id: &SpiffeId) -> Result<Instance, Problem> {
    state.store.instance(id).await?.ok_or_else(|| unknown(id))
}

/// An operator ends an instance; its ID is dead for ever.
///
/// # Errors
/// [`Problem::NotFound`], [`Problem::Precondition`] where it has ended before.
pub async fn end_by_operator(state: &State, id: &SpiffeId) -> Result<Instance, Problem> {
    let known = get(state, id).await?;
    if known.standing != Standing::Good {
        return Err(Problem::Precondition(format!("instance {id} has {} before", known.standing)));
    }
    let fact = EndInstance { id: id.clone(), node_id: None, reason: "operator" };
    state.commit(Fact::EndInstance(fact)).await?.done()?;
    get(state, id).await
}

fn issuance(state: &State, node: &Node) -> Result<Issuance, Problem> {
    Ok(Issuance {
        profile: lifetimes::instance(&state.config.ttl)?,
        limits: lifetimes::x509_limits(state, Some(node))?,
        serial: chance::serial()?,
        now: state.now(),
    })
}

/// Signs what was decided and says what to commit.
fn sign(state: &State, node: &Node, process: &Process, csr: &Csr, decided: Begin<'_>) -> Result<(Fact, X509), Problem> {
    match decided {
        Begin::Again { leaf } => {
            let issued = state.authority.sign_x509(&leaf)?;
            let fact = renewal(node, leaf.id(), process.start_token, csr, RenewalKey::Own, &issued)?;
            Ok((fact, X509::new(leaf.id().clone(), issued)))
        }
        Begin::New { class, leaf } => {
            let issued = state.authority.sign_x509(&leaf)?;
            let instance = Instance {
                id: leaf.id().clone(),
                class: class.name.clone(),
                node_id: node.id.clone(),
                start_token: process.start_token,
                standing: Standing::Good,
                begun_at: state.now(),
                ended_at: None,
                end_reason: String::new(),
                newest: issued.cert.clone(),
                held_until: None,
            };
            let fact = Fact::BeginInstance(BeginInstance {
                instance,
                spki_sha256: csr.spki_sha256(),
                node_serial: node_cert(node)?.serial.clone(),
                class_revision: class.revision,
                max_live: i64::try_from(MAX_LIVE_PER_NODE).unwrap_or(i64::MAX),
                pid_proof: process.pid_proof.clone(),
                facts: process.facts.clone(),
                origin: process.origin.clone(),
                authority: issued.authority_id.clone(),
            });
            Ok((fact, X509::new(leaf.id().clone(), issued)))
        }
    }
}

fn renewal(
    node: &Node,
    id: &SpiffeId,
    start_token: [u8; 32],
    csr: &Csr,
    key: RenewalKey,
    issued: &IssuedX509,
) -> Result<Fact, Problem> {
    Ok(Fact::RenewInstance(RenewInstance {
        id: id.clone(),
        node_id: node.id.clone(),
        start_token,
        spki_sha256: csr.spki_sha256(),
        key,
        cert: issued.cert.clone(),
        node_serial: node_cert(node)?.serial.clone(),
        authority: issued.authority_id.clone(),
    }))
}

fn unknown(id: &SpiffeId) -> Problem {
    Problem::NotFound(format!("no instance {id}"))
}
