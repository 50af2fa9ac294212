//! The identity of this process, always current.
//!
//! [`Source::builder`] waits once for the first identity; afterwards nothing here blocks: a task in
//! the background follows the Workload API, and everything made from the source (SVIDs read,
//! configurations, acceptors, channels) sees the newest state. The state is kept while the endpoint
//! is away, until the SVID ends, and dropped at once when the caller is no longer entitled to it:
//! new handshakes then fail, and guarded connections end within [`RECHECK`](crate::peer::RECHECK).
//! Where the endpoint is Chancery's attestor, revoked peers are refused and their connections closed at once.

mod builder;
mod error;
mod follow;
mod tls;

use std::sync::{Arc, atomic::Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

pub use builder::{DEFAULT_WAIT, SourceBuilder};
pub use error::SourceError;

use crate::{
    jwt::{JwtBundleSet, JwtSvid},
    origin::Origin,
    tls::{Clock, LiveRevocations},
    workload::{JwtToken, ValidatedJwt, WorkloadClient},
    x509::{X509BundleSet, X509Svid},
};
use follow::{Known, Live};

/// Clock difference granted to the issuer of a token, as go-spiffe does.
const JWT_LEEWAY_SECS: u64 = 60;

/// The identity of this process. Cheap to clone; the background task ends with the last clone and
/// the last thing made from it.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
}

struct Shared {
    client: WorkloadClient,
    provider: Arc<CryptoProvider>,
    clock: Clock,
    live: Arc<Live>,
    _stop: DropGuard,
}

impl Source {
    /// Begins to make a source.
    pub fn builder() -> SourceBuilder {
        SourceBuilder::default()
    }

    /// The current SVID: the default identity, which is the first that was granted.
    ///
    /// # Errors
    /// [`SourceError::NoIdentity`] after the caller lost its entitlement, [`SourceError::Expired`]
    /// when no newer one came in time.
    pub fn svid(&self) -> Result<Arc<X509Svid>, SourceError> {
        match &**self.shared.live.known.load() {
            Known::Held(context) => self.unexpired(context.default_svid()),
            Known::Nothing { why } => Err(SourceError::NoIdentity { why: why.clone() }),
        }
    }

    /// The current SVID with this hint; none when no identity has it (conformance WA-73).
    ///
    /// # Errors
    /// As [`svid`](Self::svid).
    pub fn svid_by_hint(&self, hint: &str) -> Result<Option<Arc<X509Svid>>, SourceError> {
        match &**self.shared.live.known.load() {
            Known::Held(context) => context.by_hint(hint).map(|svid| self.unexpired(svid)).transpose(),
            Known::Nothing { why } => Err(SourceError::NoIdentity { why: why.clone() }),
        }
    }

    /// All current SVIDs, the default first; none after the caller lost its entitlement.
    pub fn svids(&self) -> Vec<Arc<X509Svid>> {
        match &**self.shared.live.known.load() {
            Known::Held(context) => context.svids.iter().map(|issued| issued.svid.clone()).collect(),
            Known::Nothing { .. } => Vec::new(),
        }
    }

    /// The current X.509 bundles: of our own domains and the federated ones.
    pub fn bundles(&self) -> Arc<X509BundleSet> {
        self.shared.live.bundles.load_full()
    }

    /// The bundles as verifiers hold them: later loads see later states.
    pub fn live_bundles(&self) -> Arc<ArcSwap<X509BundleSet>> {
        self.shared.live.bundles.clone()
    }

    /// The current JWT bundles; none unless asked for with [`SourceBuilder::with_jwt_bundles`].
    pub fn jwt_bundles(&self) -> Option<Arc<JwtBundleSet>> {
        self.shared.live.jwt_bundles.as_ref().map(ArcSwap::load_full)
    }

    /// A JWT-SVID of the default identity for `audience`; each call asks the Workload API.
    ///
    /// # Errors
    /// [`SourceError::Client`].
    pub async fn jwt(&self, audience: &str) -> Result<JwtToken, SourceError> {
        self.jwt_for(audience, Origin::NONE).await
    }

    /// As [`jwt`](Self::jwt), for a request of somebody's: the CA's record of the token names it.
    ///
    /// # Errors
    /// As [`jwt`](Self::jwt).
    pub async fn jwt_for(&self, audience: &str, origin: Origin) -> Result<JwtToken, SourceError> {
        let client = self.shared.client.with_origin(origin);
        let tokens = client.fetch_jwt(&[audience], None).await?;
        tokens.into_iter().next().ok_or(SourceError::Client(crate::workload::ClientError::Ended))
    }

    /// Has the Workload API validate somebody's token for `audience` (which is us); prefer this.
    ///
    /// # Errors
    /// [`SourceError::Client`], with the status `InvalidArgument` when the token is not valid.
    ///
    /// Source: Workload API section 6; conformance WA-58.
    pub async fn validate_jwt(&self, audience: &str, token: &str) -> Result<ValidatedJwt, SourceError> {
        Ok(self.shared.client.validate_jwt(audience, token).await?)
    }

    /// Validates somebody's token for `audience` with the JWT bundles held here, without a call.
    ///
    /// For programs that validate more than the Workload API should be asked for, or while it is away.
    ///
    /// # Errors
    /// [`SourceError::NoJwtBundles`] unless they were asked for, [`SourceError::Jwt`] when the token is
    /// not valid, [`SourceError::Revoked`] when it was revoked, [`SourceError::Held`] while its instance is held.
    ///
    /// Source: JWT-SVID section 5; conformance WA-59, JS-30, JS-31.
    pub fn validate_jwt_locally(&self, audience: &str, token: &str) -> Result<JwtSvid, SourceError> {
        let bundles = self.jwt_bundles().ok_or(SourceError::NoJwtBundles)?;
        let svid = JwtSvid::verify(token, &bundles, audience, (self.shared.clock)(), JWT_LEEWAY_SECS)?;
        let list = self.shared.live.revoked.list();
        if let Some(until) = list.held(svid.id.as_str(), (self.shared.clock)()) {
            return Err(SourceError::Held { id: svid.id, until });
        }
        if list.refuses_token(svid.id.as_str(), svid.issued_at) {
            return Err(SourceError::Revoked { id: svid.id });
        }
        Ok(svid)
    }

    /// Whether revocations are heard now: the endpoint is Chancery's attestor, and has told its list.
    ///
    /// Where they are not, a revoked peer is refused when its SVID ends; what was told before stays refused.
    pub fn hears_revocations(&self) -> bool {
        self.shared.live.hears_revocations.load(Ordering::Acquire)
    }

    /// What was told to be revoked, and who is held: those are refused in handshakes, and their live connections are closed.
    pub fn revocations(&self) -> LiveRevocations {
        self.shared.live.revoked.clone()
    }

    /// A receiver that sees a new number whenever the state changed: rotation, bundles, redaction.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.live.revision.subscribe()
    }

    /// The client beneath, for calls the source does not wrap.
    pub fn client(&self) -> &WorkloadClient {
        &self.shared.client
    }

    fn unexpired(&self, svid: &Arc<X509Svid>) -> Result<Arc<X509Svid>, SourceError> {
        if (self.shared.clock)() > svid.not_after() {
            return Err(SourceError::Expired { id: svid.id().clone(), not_after: svid.not_after() });
        }
        Ok(svid.clone())
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("revision", &*self.shared.live.revision.borrow()).finish_non_exhaustive()
    }
}
