use std::{sync::Arc, time::Duration};

use chancery_daemon::clock;
use chancery_sdk::{id::TrustDomain, time::UnixTime};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    EnrolError, EnrolMetrics,
    attest::{attest, checked},
    backoff::Backoff,
    held::Held,
};
use crate::{
    ca::{Ca, CaError, DialError, Dialer, Trouble},
    crypto::{MemoryKey, csr},
    identity::{IdentitySender, TrustBundle},
    node::{CollectError, Collector},
    pkcs11::NodeToken,
    state::{Folder, Saved, SavedKey},
    tpm::Tpm,
};

/// Longest sleep: due times are of the wall clock, which may step.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// What the enrolment task is made of.
pub struct Parts {
    /// Ours.
    pub domain: TrustDomain,
    /// Connects.
    pub dialer: Arc<Dialer>,
    /// Proves.
    pub collector: Collector,
    /// Loads a saved key; `None` where the node has no TPM.
    pub tpm: Option<Tpm>,
    /// As `tpm`, for keys in a PKCS#11 token.
    pub token: Option<NodeToken>,
    /// Gets the channel of every new SVID.
    pub ca: Ca,
    /// What ordinary calls learnt.
    pub trouble: mpsc::Receiver<Trouble>,
    /// Publishes.
    pub identity: IdentitySender,
    /// Saves.
    pub folder: Folder,
    /// SHA-256 of the `trust_bundle` file.
    pub bootstrap_sha256: Vec<u8>,
    /// What was saved before, if anything.
    pub saved: Option<Saved>,
    /// The bundle to begin with.
    pub bundle: Arc<TrustBundle>,
    /// Counts.
    pub metrics: Arc<EnrolMetrics>,
}

/// The enrolment task.
pub struct Enroller {
    pub(super) parts: Parts,
    pub(super) held: Option<Held>,
    /// Whether this process ever had an identity; only before that may it give up.
    pub(super) was_attested: bool,
    pub(super) backoff: Backoff,
    /// No attempt before this.
    pub(super) hold_until: Instant,
}

impl Enroller {
    /// A task that has not begun.
    pub fn new(parts: Parts) -> Self {
        Self { parts, held: None, was_attested: false, backoff: Backoff::default(), hold_until: Instant::now() }
    }

    /// Keeps the node attested until `stop`.
    ///
    /// # Errors
    /// A [`DialError`] that no waiting passes, met before the process ever had an identity: most likely an operator's
    /// mistake, which he should see at once. Whoever had one serves it on, and goes on asking.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DialError> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            stranger = self.keep() => Err(stranger),
        }
    }

    async fn keep(&mut self) -> DialError {
        self.resume().await;
        let mut identity = self.parts.identity.subscribe();
        loop {
            let wait = self.until_next();
            tokio::select! {
                Some(trouble) = self.parts.trouble.recv() => self.look_into(trouble).await,
                Ok(()) = identity.changed() => self.follow_bundle(),
                () = sleep(wait) => if let Err(stranger) = self.tick().await { return stranger },
            }
        }
    }

    fn until_next(&self) -> Duration {
        let hold = self.hold_until.saturating_duration_since(Instant::now());
        let Some(held) = &self.held else { return hold.min(MAX_SLEEP) };
        let now = clock::now();
        let secs = |until: UnixTime| Duration::from_secs(u64::try_from(until.since(now)).unwrap_or(0));
        secs(held.due).max(hold).min(secs(held.not_after)).min(MAX_SLEEP)
    }

    async fn tick(&mut self) -> Result<(), DialError> {
        let now = clock::now();
        if self.held.as_ref().is_some_and(|held| held.not_after <= now) {
            self.lose("its SVID has ended");
        }
        let is_due = self.held.as_ref().is_none_or(|held| held.due <= now);
        if !is_due || Instant::now() < self.hold_until {
            return Ok(());
        }
        match self.next_svid().await {
            Ok((held, bundle)) => self.adopt(held, bundle).await,
            Err(EnrolError::Dial(stranger)) if !self.was_attested && stranger.is_stranger() => return Err(stranger),
            Err(EnrolError::Ca(CaError::Denied(Some(denial)))) => self.denied(denial).await,
            Err(error) => self.failed(&error),
        }
        Ok(())
    }

    /// By attestation where that is possible, by renewal where not.
    async fn next_svid(&mut self) -> Result<(Held, Arc<TrustBundle>), EnrolError> {
        match &self.held {
            Some(held) if !held.reattestable => self.renew().await,
            _ => attest(&self.parts.dialer, &mut self.parts.collector, &self.parts.domain).await,
        }
    }

    async fn renew(&self) -> Result<(Held, Arc<TrustBundle>), EnrolError> {
        let key = MemoryKey::generate().map_err(CollectError::from)?;
        let saved_key = SavedKey::Pkcs8(zeroize::Zeroizing::new(key.pkcs8().to_vec()));
        let request = csr(&key).map_err(CollectError::from)?;
        let issued = self.parts.ca.renew_agent(request).await?;
        let bundle = self.parts.ca.bundle().await?;
        let kind = self.parts.collector.kind();
        let held = checked(issued, false, Arc::new(key), saved_key, &bundle, kind)?;
        Ok((held.fresh_at(clock::now()), bundle))
    }
}
