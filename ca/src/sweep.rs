//! What happens by itself: authorities rotate, our SVID is renewed, failures are written down, silence is noticed.
//!
//! Every task ends on the soft word. A pass that fails is logged and tried again at the next one.

use std::{sync::Arc, time::Duration};

use chancery_sdk::time::UnixTime;

use crate::{
    authorities::offline::Need,
    claim::{self, ClaimError},
    state::State,
    store::{Authority, AuthorityKind, Durability, Fact, Health, Moment, Outcome},
    tls::{self, IdentityError, Tls},
};

/// Between two looks at authorities and our SVID.
const AUTHORITIES: Duration = Duration::from_secs(1);
/// Between two looks for connections whose certificate ended: a task of its own, which neither database nor token holds up.
const ENDS: Duration = Duration::from_secs(1);
/// Between two looks at the bundle of the server above, where there is one.
const UPSTREAM: Duration = Duration::from_secs(5);
/// Between two summaries of strangers' failures.
const FAILURES: Duration = Duration::from_secs(1);
/// Between two looks for nodes gone silent and entries whose time is over.
const SILENCE: Duration = Duration::from_secs(15);
/// Between two looks whether a stretch of the log can be made searchable.
const INDEX: Duration = Duration::from_secs(1);
/// Between two looks for records whose time is over.
const RECORDS: Duration = Duration::from_secs(3600);
/// Most transactions of one such look.
const RECORD_PASSES: usize = 100;

/// Starts the tasks.
pub fn start(state: &Arc<State>, tls: &Tls) {
    let own = tls.clone();
    every(state, AUTHORITIES, move |state| {
        let tls = own.clone();
        async move { authorities(&state, &tls).await }
    });
    every(state, ENDS, |state| async move { ended(&state) });
    every(state, UPSTREAM, |state| async move {
        if let Err(problem) = state.authority.follow(&state.store, state.now()).await {
            tracing::warn!(%problem, "the bundle above is not followed; what was known of it stays");
        }
    });
    every(state, claim::BEAT, |state| async move { alive(&state).await });
    every(state, FAILURES, |state| async move { state.failures.flush(&state.store, state.now()).await });
    every(state, SILENCE, |state| async move { silence(&state).await });
    every(state, INDEX, |state| async move { index(&state).await });
    every(state, RECORDS, |state| async move { records(&state).await });
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let mut reloads = state.shutdown.reloads();
        while reloads.changed().await.is_ok() {
            match state.reload().await {
                Ok(loaded) => tracing::info!(anchors = loaded.anchors, policies = loaded.policies, "reloaded"),
                Err(problem) => tracing::error!(%problem, "not reloaded; what was in force stays"),
            }
        }
    });
}

fn every<F, W>(state: &Arc<State>, rest: Duration, work: F)
where
    F: Fn(Arc<State>) -> W + Send + 'static,
    W: Future<Output = ()> + Send,
{
    let state = Arc::clone(state);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = state.shutdown.soft.cancelled() => return,
                () = tokio::time::sleep(rest) => work(Arc::clone(&state)).await,
            }
        }
    });
}

/// Shows that this run lives. Overtaken, it stops: the store refuses all that it would still grant.
async fn alive(state: &State) {
    match state.claim.beat(&state.store).await {
        Ok(()) => {}
        Err(problem @ ClaimError::Overtaken(_)) => {
            tracing::error!(%problem, "stopping");
            state.shutdown.begin();
        }
        Err(problem) => tracing::warn!(%problem, "not shown to be alive"),
    }
}

async fn authorities(state: &State, tls: &Tls) {
    if let Err(problem) = state.authority.rotate(&state.store, state.now()).await {
        tracing::error!(%problem, "authorities");
    }
    distrusted(state);
    // Before the first authority of a ceremony nobody can sign it.
    let can = state.authority.x509_id().is_some();
    if can
        && (tls.renewal_due(state.now()) || !state.authority.stands(&tls.authority()))
        && let Err(problem) = renew_own_svid(state, tls).await
    {
        tracing::error!(%problem, "own SVID not renewed");
    }
    let ends = [("x509", state.authority.x509_not_after()), ("jwt", state.authority.jwt_not_after())];
    for (kind, end) in ends {
        let end = end.unwrap_or(UnixTime(0)).0;
        state.metrics.authority_ends.get_or_create(&vec![("kind", kind.to_string())]).set(end);
    }
    let due = match *state.authority.need().borrow() {
        Need::Nothing => 0,
        Need::Next { .. } => 1,
        Need::Now => 2,
    };
    state.metrics.authority_csr_due.set(due);
    if let Some(token) = state.keys.token() {
        let row = vec![("token", token.identity.label.clone())];
        state.metrics.token_up.get_or_create(&row).set(i64::from(token.signs()));
        state.metrics.token_generation.get_or_create(&row).set(i64::try_from(token.generation).unwrap_or(i64::MAX));
        state.metrics.token_waiting.get_or_create(&row).set(i64::try_from(token.waiting).unwrap_or(i64::MAX));
    }
    let (durability, behind) = match state.store.health().map(|health| health.borrow().clone()) {
        None | Some(Health::Fit(Durability::Machine)) => (1, 0),
        Some(Health::Fit(Durability::Standby)) => (2, 0),
        Some(Health::Behind(_)) => (0, 1),
        Some(Health::Unfit(_)) => (0, 0),
    };
    state.metrics.database_durability.set(durability);
    state.metrics.database_behind.set(behind);
    state.metrics.upstream_up.set(i64::from(state.authority.upstream_trouble().is_none()));
    let sequence = state.authority.published().borrow().sequence;
    if let Err(problem) = state.mark.keep(&state.store, sequence, state.now()).await {
        tracing::error!(%problem, "mark of the database");
    }
    state.metrics.bundle_sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
    state.metrics.connections.set(i64::try_from(state.live.len()).unwrap_or(i64::MAX));
    state.metrics.event_number.set(*state.store.last_number().borrow());
    state.metrics.view_age_ms.set(i64::try_from(state.view.age().as_millis()).unwrap_or(i64::MAX));
    state.metrics.ready.set(i64::from(state.is_ready()));
    state.metrics.watchers.set(i64::try_from(state.view.watching()).unwrap_or(i64::MAX));
}

/// Signs, records and presents a new SVID of our own.
///
/// # Errors
/// [`IdentityError`]; what was presented stays.
pub async fn renew_own_svid(state: &State, tls: &Tls) -> Result<(), IdentityError> {
    let ttl = state.config.ttl.node_svid.as_secs();
    let (authority, store) = (&state.authority, &state.store);
    let renewed = tls::renew(&state.trust_domain, authority, store, &tls.current, ttl, state.now()).await?;
    tls.renewed(renewed);
    Ok(())
}

/// Cuts every connection whose certificate an authority signed that is not published any more.
fn distrusted(state: &State) {
    let published = state.authority.published().borrow().clone();
    // Of our own servers, and, where those are below another, the roots above.
    let roots = published.bundle(AuthorityKind::X509);
    let closed = state.live.close_where(|peer| {
        let signed_by = &peer.authorities;
        let known = |a: &Authority| signed_by.contains(&a.id);
        !signed_by.is_empty() && !published.authorities.iter().any(known) && !roots.iter().any(known)
    });
    if closed > 0 {
        tracing::info!(closed, "connections under authorities that are not published any more closed");
    }
}

/// Cuts every connection whose certificate has ended by the wall clock, which a timer of each would not ask.
fn ended(state: &State) {
    let now = state.now();
    let closed = state.live.close_where(|peer| peer.not_after.is_some_and(|end| now > end));
    if closed > 0 {
        tracing::info!(closed, "connections whose certificate ended closed");
    }
}

/// Some at a time, so that no transaction is long.
async fn records(state: &State) {
    for _ in 0..RECORD_PASSES {
        let last = *state.store.last_number().borrow();
        match state.commit(Fact::PruneRecords(Moment { now: state.now() })).await {
            // Something was cleaned, or somebody else changed something meanwhile: a look more costs little.
            Ok(Outcome::Done { number, .. }) if number > last => {}
            Ok(_) => return,
            Err(problem) => return tracing::warn!(%problem, "sweep of records"),
        }
    }
}

/// All that is full. Another server that was faster did the work for this one too.
async fn index(state: &State) {
    state.store.age_recent();
    loop {
        match state.store.next_stretch().await {
            Ok(Some(stretch)) => match state.commit(Fact::IndexLog(stretch)).await {
                Ok(Outcome::Done { .. }) => {}
                Ok(Outcome::Refused(_)) => return,
                Err(problem) => {
                    return tracing::warn!(%problem, "a search of the log has to read more of it than it should");
                }
            },
            Ok(None) => return,
            Err(problem) => {
                return tracing::warn!(%problem, "a search of the log has to read more of it than it should");
            }
        }
    }
}

async fn silence(state: &State) {
    let moment = Moment { now: state.now() };
    for fact in [Fact::ExpireNodes(moment), Fact::PruneEntries(moment), Fact::ExpireGuests(moment)] {
        if let Err(problem) = state.commit(fact).await {
            tracing::warn!(%problem, "sweep");
        }
    }
    match state.store.proposal_figures(state.now()).await {
        Ok(figures) => state.metrics.proposed(figures),
        Err(problem) => tracing::warn!(%problem, "proposals are not counted"),
    }
    match state.store.good_counts().await {
        Ok((nodes, instances)) => {
            state.metrics.nodes_good.set(nodes);
            state.metrics.instances_good.set(instances);
        }
        Err(problem) => tracing::warn!(%problem, "nodes and instances are not counted"),
    }
}
