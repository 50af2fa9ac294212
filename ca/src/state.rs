//! What every use case is given: the parts of a running CA, each with one job.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chancery_daemon::{clock::Clock, shutdown::Shutdown};
use chancery_sdk::{id::TrustDomain, time::UnixTime};

use crate::{
    authority::AuthorityManager, config::Config, enroll::Trust, failures::FailureCounter, live::LivePeers,
    metrics::Metrics, store::Store,
};

/// A running CA. Cheap to share; use cases take `&State`.
pub struct State {
    /// As loaded at start.
    pub config: Config,
    /// The realm.
    pub trust_domain: TrustDomain,
    /// This server's name in the record.
    pub server_id: String,
    /// The database.
    pub store: Store,
    /// The only part that signs.
    pub authority: Arc<AuthorityManager>,
    /// Every open connection.
    pub live: Arc<LivePeers>,
    /// Anchors and policies; swapped whole by `reload`.
    pub trust: ArcSwap<Trust>,
    /// Strangers' failures, summarised into the record.
    pub failures: Arc<FailureCounter>,
    /// The ten series.
    pub metrics: Arc<Metrics>,
    /// Now, as an argument.
    pub clock: Clock,
    /// Every stream ends on its soft token.
    pub shutdown: Shutdown,
}

impl State {
    /// Now, in whole seconds.
    pub fn now(&self) -> UnixTime {
        (self.clock)()
    }
}
