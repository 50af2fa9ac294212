//! One signer at a time: a lease with a fencing number, whose holder lives as long as its server's claim does.
//!
//! A run's claim of its server id beats every three seconds already, so the lease needs no beat of its own, and no clock
//! is compared: a holder is dead when its claim is another's, gone, or did not move while we watched.

use std::time::{Duration, Instant};

use crate::{
    claim,
    state::State,
    store::{Fact, LeaveLog, LogLease, Outcome, StoreError, TakeLog},
};

/// How long a silent holder is watched: for four of its beats.
const SILENCE: Duration = claim::BEAT.saturating_mul(4);

/// What we know of the lease.
#[derive(Debug, Default)]
pub struct Lease {
    /// Our number, while we hold it.
    fence: Option<i64>,
    /// Another holder: its lease, its beat, and since when that did not move.
    watched: Option<(LogLease, i64, Instant)>,
}

impl Lease {
    /// Our number.
    pub fn fence(&self) -> Option<i64> {
        self.fence
    }

    /// Forgets that we hold it.
    pub fn lose(&mut self) {
        *self = Self::default();
    }

    /// Takes the lease if it is free or its holder is dead; whether it is ours.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn obtain(&mut self, state: &State, key: &str) -> Result<bool, StoreError> {
        if self.fence.is_some() {
            return Ok(true);
        }
        let lease = state.store.log_lease().await?;
        if lease.nonce == state.claim.nonce() {
            // Taken by us, and we were not told.
            self.fence = Some(lease.fence);
            return Ok(true);
        }
        if !self.is_free(state, &lease).await? {
            return Ok(false);
        }
        let fence = lease.fence + 1;
        let (server, nonce) = (state.server_id.clone(), state.claim.nonce().to_owned());
        let taken = Fact::TakeLog(TakeLog { over: lease, server, nonce, key: key.into() });
        if let Outcome::Refused(_) = state.commit(taken).await? {
            return Ok(false);
        }
        tracing::info!(fence, key, "this server signs checkpoints of the record");
        (self.fence, self.watched) = (Some(fence), None);
        Ok(true)
    }

    async fn is_free(&mut self, state: &State, lease: &LogLease) -> Result<bool, StoreError> {
        if lease.server.is_empty() {
            return Ok(true);
        }
        let Some(claim) = state.store.server_claim(&lease.server).await?.filter(|claim| claim.nonce == lease.nonce)
        else {
            return Ok(true);
        };
        if let Some((_, _, since)) =
            self.watched.as_ref().filter(|(seen, beat, _)| seen == lease && *beat == claim.beat)
        {
            return Ok(since.elapsed() >= SILENCE);
        }
        self.watched = Some((lease.clone(), claim.beat, Instant::now()));
        Ok(false)
    }

    /// Gives the lease up, so that the next one need not wait.
    pub async fn leave(&mut self, state: &State) {
        let Some(fence) = self.fence.take() else { return };
        if let Err(problem) = state.store.commit(Fact::LeaveLog(LeaveLog { fence })).await {
            tracing::debug!(%problem, "lease of the log");
        }
    }
}
