//! Built-in detectors at work: what nodes ask for their instances is shown to them, and what they find becomes a proposal.
//!
//! Nothing that is issued waits for them: a call costs a look into a table, and what was found goes into a bounded queue.
//! Only calls of an instance's own node count, which mTLS and the gate have proven; nobody raises suspicion against
//! another's instance. What this server has seen is forgotten when it stops, and no other server knows it.

mod hands;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use chancery_core::{
    detect::{Denials, Detector, Evidence, Places},
    instance::HoldSpan,
    node::Node,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use tokio::sync::mpsc;

use self::hands::Hands;
use crate::{
    config::{Detectors as Config, Response},
    metrics::Metrics,
    problem::Problem,
    state::State,
    store::{Outcome, Propose, Refusal},
};

/// Findings that wait to be written; those beyond are counted and forgotten.
const WAITING: usize = 1024;
/// Findings written together.
const TOGETHER: usize = 64;

/// The detectors of a server, and what they have found.
pub struct Detectors {
    // Each guards a table; held for one look, or one for each instance of a node, never over an await.
    places: Option<Mutex<Places>>,
    denials: Option<Mutex<Denials>>,
    found: mpsc::Sender<Propose>,
    /// Until the task that writes takes it.
    waiting: Mutex<Option<mpsc::Receiver<Propose>>>,
    config: Config,
    metrics: Arc<Metrics>,
}

/// For whom a node asks.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// An instance, as the node says.
    Instance(&'a SpiffeId),
    /// A process of the node, which may be an instance.
    Process(&'a [u8; 32]),
}

impl Detectors {
    /// Those that are configured.
    pub fn new(config: Config, metrics: &Arc<Metrics>) -> Self {
        let (found, waiting) = mpsc::channel(WAITING);
        let is_on = |response| response != Response::Off;
        let denials = || Mutex::new(Denials::new(config.denials_count, config.denials_window.as_secs()));
        Self {
            places: is_on(config.two_places).then(Mutex::default),
            denials: is_on(config.denials).then(denials),
            found,
            waiting: Mutex::new(Some(waiting)),
            config,
            metrics: Arc::clone(metrics),
        }
    }

    fn seen<'a>(&self, instances: impl IntoIterator<Item = &'a SpiffeId>, place: IpAddr, at: UnixTime) {
        let Some(places) = &self.places else { return };
        let found: Vec<_> = {
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            let one = |id: &'a SpiffeId| places.seen(id, place, at).map(|evidence| (id, evidence));
            instances.into_iter().filter_map(one).collect()
        };
        for (id, evidence) in found {
            self.tell(id, Detector::TwoPlaces, self.config.two_places, evidence);
        }
    }

    fn denied(&self, id: &SpiffeId, at: UnixTime) {
        let Some(denials) = &self.denials else { return };
        let evidence = denials.lock().unwrap_or_else(PoisonError::into_inner).denied(id, at);
        if let Some(evidence) = evidence {
            self.tell(id, Detector::Denials, self.config.denials, evidence);
        }
    }

    fn tell(&self, id: &SpiffeId, detector: Detector, response: Response, evidence: Evidence) {
        let hold = match response {
            Response::Hold => HoldSpan::new(self.config.hold_for.as_secs()).ok(),
            Response::Off | Response::Propose => None,
        };
        tracing::warn!(instance = %id, %detector, count = evidence.count, "a detector found something");
        if self.found.try_send(Propose { instance: id.clone(), detector, evidence, hold }).is_err() {
            self.metrics.found(detector, "dropped");
        }
    }
}

/// Does what a node asked for one of its instances, under the eyes of the detectors.
///
/// # Errors
/// Those of `work`.
pub async fn watched<T>(
    state: &State,
    node: &Node,
    whose: Whose<'_>,
    source: Option<IpAddr>,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let detectors = &state.detectors;
    let is_on = detectors.places.is_some() || detectors.denials.is_some();
    let id = if is_on { own(state, node, whose) } else { None };
    // As it comes in, not as it ends: what waited to be signed is not from where the node was before.
    if let (Some(id), Some(place)) = (&id, source) {
        detectors.seen([id], place, state.now());
    }
    let done = work.await;
    if let (Some(id), Err(problem)) = (&id, &done)
        && is_denial(problem)
    {
        detectors.denied(id, state.now());
    }
    done
}

/// The node told which processes live on it.
pub fn reported(state: &State, node: &Node, live_start_tokens: &[[u8; 32]], source: Option<IpAddr>) {
    let Some(place) = source.filter(|_| state.detectors.places.is_some()) else { return };
    let living = state.view.look(|registry| {
        let known = |token| registry.process(&node.id, token).map(|running| running.instance.id.clone());
        live_start_tokens.iter().filter_map(known).collect::<Vec<_>>()
    });
    state.detectors.seen(&living.unwrap_or_default(), place, state.now());
}

/// The running instance, where it is this node's.
fn own(state: &State, node: &Node, whose: Whose<'_>) -> Option<SpiffeId> {
    let found = state.view.look(|registry| {
        let running = match whose {
            Whose::Instance(id) => registry.instance(id),
            Whose::Process(token) => registry.process(&node.id, token),
        };
        running.filter(|running| running.instance.node_id == node.id).map(|running| running.instance.id.clone())
    });
    found.ok().flatten()
}

/// Whether somebody asked for what is not to be had. A hold is our own doing, and what passes by itself is no denial.
fn is_denial(problem: &Problem) -> bool {
    match problem {
        Problem::AlreadyExists(_)
        | Problem::Denied(_)
        | Problem::Invalid(_)
        | Problem::NotFound(_)
        | Problem::Precondition(_) => true,
        Problem::Busy { .. }
        | Problem::Conflict(_)
        | Problem::Exhausted(_)
        | Problem::Held(_)
        | Problem::Internal(_)
        | Problem::Node(_)
        | Problem::Unavailable(_) => false,
    }
}

/// Starts the task that writes what was found, until the soft word.
pub fn start(state: &Arc<State>) {
    let waiting = state.detectors.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(waiting) = waiting else { return };
    let (hands, metrics, soft) = (Hands::of(state), Arc::clone(&state.metrics), state.shutdown.soft.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = soft.cancelled() => {}
            () = write(waiting, &hands, &metrics) => {}
        }
    });
}

/// What cannot be written is forgotten: the detector tells again of what goes on.
async fn write(mut waiting: mpsc::Receiver<Propose>, hands: &Hands, metrics: &Metrics) {
    let mut some = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut some, TOGETHER).await > 0 {
        let found: Vec<Propose> = std::mem::take(&mut some);
        let detectors: Vec<Detector> = found.iter().map(|one| one.detector).collect();
        match hands.propose(found).await {
            Ok(outcomes) => {
                for (detector, outcome) in detectors.into_iter().zip(outcomes) {
                    metrics.found(detector, word(&outcome));
                }
            }
            Err(problem) => {
                tracing::warn!(%problem, findings = detectors.len(), "findings of detectors not recorded");
                detectors.into_iter().for_each(|detector| metrics.found(detector, "dropped"));
            }
        }
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done { .. } => "proposed",
        Outcome::Refused(Refusal::TooManyProposals { .. }) => "dropped",
        // One is open, or the instance has ended meanwhile.
        Outcome::Refused(_) => "known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one door to the database that the detectors have, and everything that they name.
    #[test]
    fn no_terminal_act_is_within_a_detectors_reach() {
        let product = |text: &'static str| text.split("#[cfg(test)]").next().unwrap_or_default();
        let core = [
            include_str!("../../core/src/detect/mod.rs"),
            include_str!("../../core/src/detect/denials.rs"),
            include_str!("../../core/src/detect/places.rs"),
            include_str!("../../core/src/detect/recent.rs"),
        ];
        for text in core.into_iter().chain([include_str!("mod.rs"), include_str!("hands.rs")]).map(product) {
            for act in ["ban", "evict", "Revoke", "revoke::", "EndInstance", "FailNode", "Close", "Delete", "commit("] {
                assert!(!text.contains(act), "{act}");
            }
            let facts: Vec<&str> = text.split("Fact::").skip(1).collect();
            assert!(facts.iter().all(|fact| fact.starts_with("Propose)")), "{facts:?}");
        }
        let hands = product(include_str!("hands.rs"));
        assert_eq!(hands.matches("Fact::").count(), 1);
        assert_eq!(hands.matches("pub").count(), hands.matches("pub(super)").count());
    }

    #[test]
    fn what_passes_by_itself_and_our_own_hold_are_no_denials() {
        let text = String::new;
        for problem in [Problem::Held(text()), Problem::Unavailable(text()), Problem::Busy { waiting: 1, retry_ms: 1 }]
        {
            assert!(!is_denial(&problem), "{problem:?}");
        }
        for problem in [Problem::NotFound(text()), Problem::Invalid(text()), Problem::Precondition(text())] {
            assert!(is_denial(&problem), "{problem:?}");
        }
    }
}
