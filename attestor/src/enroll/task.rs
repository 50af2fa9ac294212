use std::{sync::Arc, time::Duration};

use chancery_daemon::clock;
use chancery_sdk::{id::TrustDomain, time::UnixTime};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    EnrolError, EnrolMetrics,
    attest::{attest, checked},
    backoff::Backoff,
    held::Held,
};
use crate::{
    ca::{Ca, CaError, Denial, Dialer, Trouble, wire, x509_bundle},
    crypto::{AnyNodeKey, MemoryKey, SignError, certified, csr},
    identity::{IdentitySender, NodeIdentity, TrustBundle},
    node::{CollectError, Collector},
    state::{Folder, Saved, SavedKey, SavedSvid},
    tpm::{NodeKeyBlob, Tpm, TpmError, TpmKey},
};

/// Longest sleep: due times are of the wall clock, which may step.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Longest wait for the first call over a new connection.
const FIRST_CALL: Duration = Duration::from_secs(30);

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
    parts: Parts,
    held: Option<Held>,
    backoff: Backoff,
    /// No attempt before this.
    hold_until: Instant,
}

impl Enroller {
    /// A task that has not begun.
    pub fn new(parts: Parts) -> Self {
        Self { parts, held: None, backoff: Backoff::default(), hold_until: Instant::now() }
    }

    /// Keeps the node attested until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        self.resume().await;
        let mut identity = self.parts.identity.subscribe();
        loop {
            let wait = self.until_next();
            tokio::select! {
                Some(trouble) = self.parts.trouble.recv() => self.look_into(trouble).await,
                Ok(()) = identity.changed() => self.follow_bundle(),
                () = sleep(wait) => self.tick().await,
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

    async fn tick(&mut self) {
        let now = clock::now();
        if self.held.as_ref().is_some_and(|held| held.not_after <= now) {
            self.lose("its SVID has ended");
        }
        let is_due = self.held.as_ref().is_none_or(|held| held.due <= now);
        if !is_due || Instant::now() < self.hold_until {
            return;
        }
        match self.next_svid().await {
            Ok((held, bundle)) => self.adopt(held, bundle).await,
            Err(EnrolError::Ca(CaError::Denied(Some(denial)))) => self.denied(denial).await,
            Err(error) => self.failed(&error),
        }
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

    /// Uses a new SVID: first call on its own channel (which makes its serial the current one), then everybody's.
    async fn adopt(&mut self, held: Held, bundle: Arc<TrustBundle>) {
        self.trust(&bundle);
        match self.channel(&held).await {
            Ok(()) => {}
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
        self.save();
        self.parts.identity.send_replace(Some(Arc::new(identity)));
        while self.parts.trouble.try_recv().is_ok() {} // learnt with the old SVID
    }

    /// Makes the channel of an SVID everybody's, after a first call over it. A CA that is away is no reason to wait.
    async fn channel(&mut self, held: &Held) -> Result<(), Denial> {
        let key = certified(held.chain.clone(), Arc::clone(&held.key));
        let channel = match self.parts.dialer.lasting(key) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::error!(%error, "no channel for the new SVID");
                return Ok(());
            }
        };
        let first = timeout(FIRST_CALL, Ca::post_status(channel.clone())).await;
        match first {
            Ok(Err(CaError::Denied(Some(denial)))) => return Err(denial),
            Ok(Err(error @ CaError::Lost(_))) => tracing::warn!(%error, "the first call with the new SVID"),
            Ok(_) | Err(_) => {}
        }
        self.parts.ca.use_channel(Some(channel));
        Ok(())
    }

    /// The CA says that the standing is gone: proves the node again at once, and gives up the identity where that fails.
    async fn denied(&mut self, denial: Denial) {
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

    fn failed(&mut self, error: &EnrolError) {
        self.parts.metrics.failed();
        let wait = if error.is_ban() { self.backoff.banned() } else { self.backoff.next() };
        if error.is_ban() {
            self.lose("an operator banned it");
        }
        self.hold_until = Instant::now() + wait;
        let standing = if self.held.is_some() { "the old SVID still serves" } else { "nothing is served" };
        tracing::warn!(%error, advice = error.advice(), standing, retry_in = ?wait, "the node is not attested anew");
    }

    /// Takes the identity away; what is saved forgets the SVID too.
    fn lose(&mut self, why: &str) {
        self.parts.metrics.lost();
        self.parts.ca.use_channel(None);
        if let Some(held) = self.held.take() {
            tracing::error!(id = %held.id, why, "the node has lost its standing; nothing is served until it attests again");
            self.save();
        }
        self.parts.identity.send_if_modified(|identity| identity.take().is_some());
    }

    /// An ordinary call failed in a way that may be about the node itself: asks once more, then acts.
    async fn look_into(&mut self, trouble: Trouble) {
        let Some(held) = &self.held else { return };
        let reattestable = held.reattestable;
        let is_held_back = Instant::now() < self.hold_until;
        if is_held_back && trouble == Trouble::LostTwice {
            return;
        }
        match (self.parts.ca.confirm().await, trouble) {
            // A denial is obeyed at once; only what might undo it waits its turn.
            (Err(CaError::Denied(Some(_))), _) if is_held_back => self.lose("the CA denied it"),
            (Err(CaError::Denied(Some(denial))), _) => self.denied(denial).await,
            // Perhaps our certificate is refused, which TLS 1.3 tells late or never: where strangers are heard, ask as one.
            (Err(CaError::Lost(_)), Trouble::LostTwice) if reattestable => self.ask_as_stranger().await,
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

    /// A bundle came with a sync: dials trust it from now on, and it is saved.
    fn follow_bundle(&mut self) {
        let current = self.parts.identity.borrow().as_ref().map(|identity| Arc::clone(&identity.bundle));
        if let Some(bundle) = current.filter(|bundle| *bundle != self.parts.bundle) {
            tracing::info!(
                sequence = bundle.sequence_number,
                authorities = bundle.x509_authorities.len(),
                "new bundle"
            );
            self.trust(&bundle);
            self.save();
        }
    }

    fn trust(&mut self, bundle: &Arc<TrustBundle>) {
        match x509_bundle(&bundle.trust_domain, &bundle.x509_authorities) {
            Ok(x509) => self.parts.dialer.trust(x509),
            Err(error) => return tracing::error!(error, "the CA's bundle does not parse; the old one stays"),
        }
        self.parts.bundle = Arc::clone(bundle);
    }

    fn save(&self) {
        let svid = self.held.as_ref().map(Held::to_saved);
        let saved = Saved::new(self.parts.bootstrap_sha256.clone(), &self.parts.bundle, svid);
        if let Err(error) = self.parts.folder.save(&saved) {
            tracing::error!(%error, "the state is not saved; after a restart the node attests anew");
        }
    }

    /// Takes up the saved SVID where it is still good for something.
    async fn resume(&mut self) {
        let Some(svid) = self.parts.saved.take().and_then(|saved| saved.svid) else { return };
        let id = svid.id.clone();
        match self.reopen(svid).await {
            Ok(held) => {
                let bundle = Arc::clone(&self.parts.bundle);
                self.adopt(held, bundle).await;
            }
            Err(error) => tracing::info!(%id, %error, "the saved SVID is not used"),
        }
    }

    async fn reopen(&self, saved: SavedSvid) -> Result<Held, EnrolError> {
        let key = self.reopen_key(&saved.key).await?;
        let issued = wire::Issued { id: saved.id.clone(), chain: saved.certificates(), expires_at: UnixTime(0) };
        let kind = self.parts.collector.kind();
        checked(issued, saved.reattestable, key, saved.key, &self.parts.bundle, kind)
    }

    async fn reopen_key(&self, saved: &SavedKey) -> Result<AnyNodeKey, CollectError> {
        match (saved, &self.parts.tpm) {
            (SavedKey::Pkcs8(pkcs8), _) => Ok(Arc::new(MemoryKey::from_pkcs8(pkcs8)?)),
            (SavedKey::Tpm { .. }, None) => Err(SignError("it is in a TPM that is not configured".into()).into()),
            (SavedKey::Tpm { private, public }, Some(tpm)) => {
                let blob = NodeKeyBlob { private: private.clone(), public: public.clone() };
                let tpm = tpm.clone();
                let load = move || -> Result<Arc<TpmKey>, TpmError> {
                    tpm.check_node_key(&blob)?;
                    TpmKey::new(tpm, blob)
                };
                let key = spawn_blocking(load).await.map_err(|e| SignError(e.to_string()))??;
                Ok(key)
            }
        }
    }
}
