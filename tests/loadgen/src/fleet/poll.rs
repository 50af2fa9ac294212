//! A node that asks every few seconds, as SPIRE's agent does.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types::{Bundle, Entry},
};
use chancery_sdk::{id::TrustDomain, x509::subject_key_id};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::{Polling, arrivals::Arrivals, member::Member, rotation::Rotation};
use crate::{
    dice::Dice,
    moment::Moment,
    pace::Ledger,
    server::{Dialer, Known, synchronise, word},
    site::x509_bundle,
};

/// Jitter of the interval, as SPIRE's agent has it.
const JITTER: f64 = 0.1;

/// What all nodes of a crew share while they poll.
pub(super) struct Shared {
    pub(super) polling: Polling,
    pub(super) ledger: Ledger,
    pub(super) arrivals: Arrivals,
    pub(super) trust: Trust,
}

/// What the crew believes of the trust domain, from the newest bundle any of its nodes saw.
pub(super) struct Trust {
    domain: TrustDomain,
    dialer: Arc<Dialer>,
    newest: AtomicU64,
    // Guards the tainted authorities, hex key IDs; held for one look or swap.
    tainted: Mutex<BTreeSet<String>>,
}

impl Trust {
    pub(super) fn new(domain: TrustDomain, dialer: Arc<Dialer>) -> Self {
        Self { domain, dialer, newest: AtomicU64::new(0), tainted: Mutex::default() }
    }

    /// Dials trust a newer bundle from now on.
    pub(super) fn learn(&self, bundle: &Bundle) {
        if self.newest.fetch_max(bundle.sequence_number, Ordering::SeqCst) >= bundle.sequence_number {
            return;
        }
        let ids = bundle.x509_authorities.iter().filter(|a| a.tainted).filter_map(|a| subject_key_id(&a.asn1));
        let tainted = ids.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        *self.tainted.lock().unwrap_or_else(PoisonError::into_inner) = tainted;
        if let Ok(bundle) = x509_bundle(&self.domain, bundle) {
            self.dialer.trust(bundle);
        }
    }

    pub(super) fn is_tainted(&self, authority: &str) -> bool {
        self.tainted.lock().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }
}

/// Polls until `stop`.
pub(super) async fn poll(member: Arc<Member>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut dice = Dice::new(member.index as u64);
    let interval = Duration::from_millis(shared.polling.interval_ms);
    let mut rotation = Rotation::new(&member, &mut dice);
    let mut known = Known::default();
    let mut due = Instant::now() + interval.mul_f64(dice.share());
    let mut free_at = Instant::now();
    loop {
        let wake = rotation.moment(&shared.polling).map_or(due, |at| at.min(due));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(wake.into()) => {}
        }
        let begun = Instant::now();
        let asks = begun >= due;
        if asks {
            // A node that was still busy when this poll was due has been waiting since then.
            let waiting_since = if free_at > due { due } else { begun };
            ask(&member, &shared, &mut known, waiting_since).await;
        }
        let _ = rotation.look(&member, &shared).await;
        free_at = Instant::now();
        if asks {
            let next = || interval.mul_f64(dice.between(1.0 - JITTER, 1.0 + JITTER));
            due = following(due, free_at, next, |missed| {
                // A poll that was due meanwhile would have had its answer now at the earliest.
                shared.ledger.open().time("sync", free_at.duration_since(missed));
            });
        }
    }
}

/// When the next poll is due; those that fell due while the last one was under way are given to `missed`, and only the
/// last of them is made: so does an agent, and leaving the others out would hide what they had waited.
fn following(
    mut due: Instant,
    now: Instant,
    mut interval: impl FnMut() -> Duration,
    mut missed: impl FnMut(Instant),
) -> Instant {
    due += interval();
    loop {
        let next = due + interval();
        if next > now {
            return due;
        }
        missed(due);
        due = next;
    }
}

async fn ask(member: &Member, shared: &Shared, known: &mut Known, waiting_since: Instant) {
    let link = match member.link() {
        Ok(link) => link,
        Err(status) => {
            // A renewal that failed halfway left the node without a connection.
            shared.ledger.open().call("sync", waiting_since.elapsed(), Err(word(&status)));
            let _ = member.connect(&shared.ledger).await;
            return;
        }
    };
    let clocked = shared.polling.clocked.as_deref();
    let mut seen = Vec::new();
    let synced = synchronise(&link, shared.polling.by, known, |entry: &Entry| {
        let path = entry.spiffe_id.as_ref().map(|id| id.path.as_str()).unwrap_or_default();
        if clocked.is_some_and(|prefix| path.starts_with(prefix)) {
            seen.push(path.to_owned());
        }
    });
    let outcome = synced.await.map_err(|status| word(&status));
    let at = Moment::now();
    seen.iter().for_each(|path| shared.arrivals.note(path, member.index, at));
    shared.ledger.open().call("sync", waiting_since.elapsed(), outcome);
    let begun = Instant::now();
    let bundle =
        link.call(|channel| async { BundleClient::new(channel).get_bundle(GetBundleRequest::default()).await });
    let bundle = bundle.await;
    shared.ledger.open().call("bundle", begun.elapsed(), bundle.as_ref().map(|_| 0).map_err(word));
    if let Ok(bundle) = bundle {
        shared.trust.learn(&bundle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_that_fell_due_during_a_stall_are_told_and_one_is_made() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut missed = Vec::new();
        let next = following(start, at(17), || Duration::from_secs(5), |due| missed.push(due));
        assert_eq!((next, missed), (at(15), vec![at(5), at(10)]));
        let mut missed = Vec::new();
        let next = following(start, at(1), || Duration::from_secs(5), |due| missed.push(due));
        assert_eq!((next, missed), (at(5), vec![]));
    }
}
