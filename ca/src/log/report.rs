//! What a node says of a checkpoint that it refuses: judged here, recorded, and where it is proved, told by `/ready`.
//!
//! A node can say anything. What it keeps counts where a key of this log signed it: nobody else can make one, and a record
//! that does not continue it is not the one that was signed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chancery_core::{
    log::{checkpoint::Checkpoint, proof},
    node::Node,
};
use chancery_sdk::id::SpiffeId;

use super::{origin, witness};
use crate::{
    metrics::Metrics,
    problem::Problem,
    state::State,
    store::{DisputeLog, Fact},
};

/// Least time between two events of one verdict about what one node refuses.
const QUIET: Duration = Duration::from_secs(600);
/// Least time between two judgements of what one node keeps. What could not be shown may be shown a moment later.
const AGAIN: Duration = Duration::from_secs(5);
/// Most nodes whose last report is remembered.
const MAX_NODES: usize = 65_536;

/// What each node reported last. Guarded for one look.
#[derive(Debug, Default)]
pub struct Reports(Mutex<HashMap<SpiffeId, Last>>);

#[derive(Debug)]
struct Last {
    judged: Instant,
    recorded: Option<(Instant, &'static str)>,
}

impl Reports {
    /// Whether what the node says is to be judged now.
    fn may_judge(&self, node: &SpiffeId, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.get_mut(node) {
            let due = now.duration_since(last.judged) >= AGAIN;
            last.judged = if due { now } else { last.judged };
            return due;
        }
        if last.len() >= MAX_NODES {
            last.retain(|_, last| now.duration_since(last.judged) < QUIET);
        }
        let room = last.len() < MAX_NODES;
        if room {
            last.insert(node.clone(), Last { judged: now, recorded: None });
        }
        room
    }

    /// Whether the verdict is to be recorded: another one than before, or the same one long after.
    fn is_news(&self, node: &SpiffeId, verdict: &'static str, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.get_mut(node) else { return true };
        let known = last.recorded.is_some_and(|(at, known)| known == verdict && now.duration_since(at) < QUIET);
        if !known {
            last.recorded = Some((now, verdict));
        }
        !known
    }
}

/// Why a node refuses a checkpoint; closed, so that nothing of a node's own is recorded.
pub const WHY: [&str; 7] = ["another", "cut", "epoch", "forged", "key", "malformed", "unproven"];

/// What a report comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Verdict {
    /// What the node keeps is of this record.
    Consistent,
    /// This record is not the one that was signed.
    Proven(String),
    /// Nothing is shown either way.
    Unproven(String),
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::Proven(_) => "proven",
            Self::Unproven(_) => "unproven",
        }
    }
}

/// Judges and records what a node refuses.
///
/// # Errors
/// [`Problem::Invalid`], and what the database says.
pub async fn report(state: &State, node: &Node, kept: &[u8], refused: &[u8], why: &str) -> Result<(), Problem> {
    let why = WHY.into_iter().find(|known| *known == why);
    let why = why.ok_or_else(|| Problem::Invalid(format!("why must be one of {}", WHY.join(", "))))?;
    if kept.len() > witness::MAX_NOTE_BYTES || refused.len() > witness::MAX_NOTE_BYTES {
        return Err(Problem::Invalid(format!("a checkpoint has at most {} bytes", witness::MAX_NOTE_BYTES)));
    }
    if !state.log.reports.may_judge(&node.id, Instant::now()) {
        return Ok(());
    }
    let verdict = judge(state, kept).await?;
    if !state.log.reports.is_news(&node.id, verdict.name(), Instant::now()) {
        return Ok(());
    }
    Metrics::count(&state.metrics.log_disputes, "verdict", verdict.name());
    match &verdict {
        Verdict::Proven(what) => {
            tracing::error!(
                node = %node.id, %what,
                "A NODE KEEPS A CHECKPOINT THAT THE RECORD DOES NOT CONTINUE: nothing more is signed; keep the database and \
                 the log's folder as they are, run `chancery-ca audit verify`, and see docs/RECORD.md"
            );
            state.metrics.log_altered.set(1);
            state.log.disputed.send_replace(Some(format!("log: {} keeps a checkpoint that {what}", node.id)));
        }
        Verdict::Unproven(what) => tracing::warn!(node = %node.id, why, %what, "a node refuses a checkpoint"),
        Verdict::Consistent => {
            tracing::info!(node = %node.id, why, "a node refuses a checkpoint; what it keeps is ours")
        }
    }
    let kept = witness::head_of(state, kept);
    let refused = witness::head_of(state, refused);
    let fact = DisputeLog { node: node.id.clone(), why, verdict: verdict.name(), kept, refused };
    state.commit(Fact::DisputeLog(fact)).await?;
    Ok(())
}

async fn judge(state: &State, kept: &[u8]) -> Result<Verdict, Problem> {
    let Some((epoch, head)) = witness::head_of(state, kept) else {
        return Ok(Verdict::Unproven("what it keeps is no checkpoint of this trust domain".into()));
    };
    if let Err(why) = Checkpoint::open(kept, &origin(&state.config, epoch), &state.log.keys(&state.config)) {
        return Ok(Verdict::Unproven(format!("what it keeps: {why}")));
    }
    let end = state.store.log_end().await?;
    if epoch != end.epoch {
        return Ok(match epoch > end.epoch {
            true => Verdict::Proven(format!("is of epoch {epoch}, and the database is in epoch {}", end.epoch)),
            false => Verdict::Unproven(format!("what it keeps is of epoch {epoch}, which is over")),
        });
    }
    let stored = state.store.last_checkpoint(epoch).await?.map_or(0, |stored| stored.size);
    if i64::try_from(head.size).is_ok_and(|size| size > stored) {
        return Ok(Verdict::Proven(format!(
            "is of {} events, and the last one in the database of {stored}: the newest were taken away",
            head.size
        )));
    }
    let newest = state.log.newest.borrow().clone();
    let Some(newest) = newest.filter(|newest| newest.epoch == epoch && newest.head.size >= head.size) else {
        return Ok(Verdict::Unproven("this server has not followed the log so far".into()));
    };
    let made = tokio::task::spawn_blocking(move || {
        let proof = proof::consistency(head.size, newest.head.size, |tile| newest.folder.read(tile))?;
        Ok::<_, proof::ProofError<std::io::Error>>(proof::is_consistent(head, newest.head, &proof))
    });
    Ok(match made.await {
        Ok(Ok(true)) => Verdict::Consistent,
        Ok(Ok(false)) => {
            Verdict::Proven(format!("is of {} events, and the first {} are other ones here", head.size, head.size))
        }
        Ok(Err(unread)) => Verdict::Unproven(format!("the tiles cannot be read: {unread}")),
        Err(died) => Verdict::Unproven(died.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_not_held_back_by_what_could_not_be_shown_before_and_the_same_is_recorded_once_in_ten_minutes() {
        let (reports, began) = (Reports::default(), Instant::now());
        let node = SpiffeId::parse("spiffe://example.org/spire/agent/tpm/aa").unwrap();
        let other = SpiffeId::parse("spiffe://example.org/spire/agent/tpm/bb").unwrap();
        let after = |secs| began + Duration::from_secs(secs);
        assert!(reports.may_judge(&node, after(0)) && reports.is_news(&node, "unproven", after(0)));
        assert!(!reports.may_judge(&node, after(4)), "judged at every word of a node");
        assert!(reports.may_judge(&other, after(4)), "one node holds back another");
        assert!(reports.may_judge(&node, after(5)) && !reports.is_news(&node, "unproven", after(5)));
        assert!(reports.may_judge(&node, after(30)) && reports.is_news(&node, "proven", after(30)));
        assert!(!reports.is_news(&node, "proven", after(629)) && reports.is_news(&node, "proven", after(630)));
    }
}
