use std::{sync::Arc, time::Duration};

use chancery_daemon::clock;
use tokio::time::{Instant, timeout};

use super::{EnrolError, attest::attest, held::Held, task::Enroller};
use crate::{
    ca::{Ca, CaError, Denial, Trouble},
    crypto::certified,
    identity::{NodeIdentity, TrustBundle},
    plan::longest_wait,
};

/// Longest wait for the first call over a new line.
const FIRST_CALL: Duration = Duration::from_secs(30);

/// The node's standing: how it is won, doubted and lost.
impl Enroller {
    /// Uses a new SVID: first call on its own channel (which makes its serial the current one), then everybody's.
    pub(super) async fn adopt(&mut self, held: Held, bundle: Arc<TrustBundle>) {
        self.trust(&bundle);
        match self.line(&held).await {
            Ok(()) => {}
            // The answer of an earlier try came late and made its serial the next one. The old SVID is still the current one.
            Err(Denial::NotActive) if self.serves_on() => {
                return self.failed(&EnrolError::Ca(CaError::Denied(Some(Denial::NotActive))));
            }
            Err(denial) => return self.denied_quietly(denial),
        }
        tracing::info!(id = %held.id, until = %held.not_after, "the node is attested");
        self.parts.metrics.admitted(held.not_after.0);
        self.backoff.reset();
        self.hold_until = Instant::now();
        let identity = NodeIdentity {
            id: held.id.clone(),
            chain: held.chain.clone(),
            not_before: held.not_before,
            expires_at: held.not_after,
            bundle,
        };
        self.held = Some(held);
        self.was_attested = true;
        self.save();
        self.parts.identity.send_replace(Some(Arc::new(identity)));
        while self.parts.trouble.try_recv().is_ok() {} // learnt with the old SVID
    }

    /// Whether an SVID is held that has not ended.
    fn serves_on(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.not_after > clock::now())
    }

    /// Makes the line of an SVID everybody's, after a first call over it. A CA that is away is no reason to wait.
    async fn line(&mut self, held: &Held) -> Result<(), Denial> {
        let key = certified(held.chain.clone(), Arc::clone(&held.key));
        let line = match self.parts.dialer.line(key) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "no line for the new SVID");
                return Ok(());
            }
        };
        let first = timeout(FIRST_CALL, Ca::post_status(&line)).await;
        match first {
            Ok(Err(CaError::Denied(Some(denial)))) => return Err(denial),
            Ok(Err(error @ CaError::Lost(_))) => tracing::warn!(%error, "the first call with the new SVID"),
            Ok(_) | Err(_) => {}
        }
        self.parts.ca.use_line(Some(line));
        Ok(())
    }

    /// The CA says that the standing is gone: proves the node again at once, and gives up the identity where that fails.
    pub(super) async fn denied(&mut self, denial: Denial) {
        tracing::warn!(%denial, "the CA denies this node");
        if denial == Denial::Banned {
            return self.denied_quietly(denial);
        }
        match attest(&self.parts.dialer, &mut self.parts.collector, &self.parts.domain).await {
            Ok((held, bundle)) => self.adopt(held, bundle).await,
            Err(error) => {
                self.lose("the CA denied it and it could not attest again");
                self.failed(&error);
            }
        }
    }

    fn denied_quietly(&mut self, denial: Denial) {
        self.lose("the CA denied it");
        self.failed(&EnrolError::Ca(CaError::Denied(Some(denial))));
    }

    pub(super) fn failed(&mut self, error: &EnrolError) {
        self.parts.metrics.failed();
        let longest = self.held.as_ref().map_or(Duration::MAX, |held| longest_wait(clock::now(), held.not_after));
        let wait = if error.is_ban() { self.backoff.banned() } else { self.backoff.next(longest) };
        if error.is_ban() {
            self.lose("an operator banned it");
        }
        self.hold_until = Instant::now() + wait;
        let standing = if self.held.is_some() { "the old SVID still serves" } else { "nothing is served" };
        tracing::warn!(%error, advice = error.advice(), standing, retry_in = ?wait, "the node is not attested anew");
    }

    /// Takes the identity away; what is saved forgets the SVID too.
    pub(super) fn lose(&mut self, why: &str) {
        self.parts.metrics.lost();
        self.parts.ca.use_line(None);
        if let Some(held) = self.held.take() {
            tracing::error!(id = %held.id, why, "the node has lost its standing; nothing is served until it attests again");
            self.save();
        }
        self.parts.identity.send_if_modified(|identity| identity.take().is_some());
    }

    /// An ordinary call failed in a way that may be about the node itself: asks once more, then acts.
    pub(super) async fn look_into(&mut self, trouble: Trouble) {
        let Some(held) = &self.held else { return };
        let reattestable = held.reattestable;
        let is_held_back = Instant::now() < self.hold_until;
        if is_held_back && trouble == Trouble::Lost {
            return;
        }
        match (self.parts.ca.confirm().await, trouble) {
            // A denial is obeyed at once; only what might undo it waits its turn.
            (Err(CaError::Denied(Some(_))), _) if is_held_back => self.lose("the CA denied it"),
            (Err(CaError::Denied(Some(denial))), _) => self.denied(denial).await,
            // Perhaps our certificate is refused, which TLS 1.3 tells late or never: where strangers are heard, ask as one.
            (Err(CaError::Lost(_)), Trouble::Lost) if reattestable => self.ask_as_stranger().await,
            _ => {}
        }
        while self.parts.trouble.try_recv().is_ok() {} // the same, reported by the calls above
    }

    async fn ask_as_stranger(&mut self) {
        match attest(&self.parts.dialer, &mut self.parts.collector, &self.parts.domain).await {
            Ok((held, bundle)) => self.adopt(held, bundle).await,
            Err(error) => self.failed(&error),
        }
    }
}
