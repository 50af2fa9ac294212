//! What the workload side counts. Every series has one meaning and moves with the event it names.
//!
//! The node's own series are in `enroll`. Labels are of closed sets: no caller can make a new one.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Series of the doors, the sync and the instances; clones share them.
#[derive(Clone, Debug)]
pub struct WorkloadMetrics {
    attestations: Family<Verdict, Counter>,
    call_seconds: Family<Method, Histogram>,
    calls: Family<Call, Counter>,
    /// X509-SVIDs of entries that are held now.
    pub(crate) identities: Gauge,
    /// Processes that are, or want to be, instances.
    pub(crate) instances: Gauge,
    last_sync: Gauge<f64, AtomicU64>,
    /// 1 while the newest checkpoint of the CA is refused.
    pub(crate) log_disputed: Gauge,
    /// Epoch of the checkpoint that is kept.
    pub(crate) log_epoch: Gauge,
    log_refused: Family<Why, Counter>,
    /// Events in the checkpoint that is kept.
    pub(crate) log_size: Gauge,
    revocation_delay: Histogram,
    revocation_delay_max: Gauge<f64, AtomicU64>,
    states: Family<State, Counter>,
    /// Streams open now.
    pub(crate) streams: Gauge,
    /// What is counted only when it is asked for, by the doors.
    pub(crate) outlook: Later,
    svids: Family<Kind, Counter>,
    syncs: Family<Verdict, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Call {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Method {
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Verdict {
    verdict: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Why {
    why: &'static str,
}

/// A collector that comes after the registry is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Later(Arc<OnceLock<Box<dyn Collector>>>);

impl Later {
    /// Brings it; the first one stays.
    pub(crate) fn set(&self, collector: impl Collector) {
        let _ = self.0.set(Box::new(collector));
    }
}

impl Collector for Later {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.get().map_or(Ok(()), |collector| collector.encode(encoder))
    }
}

/// What the CA issued to this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Issued {
    /// X509-SVID of an entry.
    Entry,
    /// X509-SVID of an instance.
    Instance,
    /// JWT-SVID.
    Jwt,
}

impl Issued {
    fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Instance => "instance",
            Self::Jwt => "jwt",
        }
    }
}

impl Default for WorkloadMetrics {
    fn default() -> Self {
        Self {
            attestations: Family::default(),
            // 0.1 ms to 1.6 s: a cached answer takes less than one, an issued one a few dozen.
            call_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 15))),
            calls: Family::default(),
            identities: Gauge::default(),
            instances: Gauge::default(),
            last_sync: Gauge::default(),
            log_disputed: Gauge::default(),
            log_epoch: Gauge::default(),
            log_refused: Family::default(),
            log_size: Gauge::default(),
            // 0.25 s to 512 s: commits are told in whole seconds.
            revocation_delay: Histogram::new(exponential_buckets(0.25, 2.0, 12)),
            revocation_delay_max: Gauge::default(),
            states: Family::default(),
            streams: Gauge::default(),
            outlook: Later::default(),
            svids: Family::default(),
            syncs: Family::default(),
        }
    }
}

impl WorkloadMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let series = registry.sub_registry_with_prefix("chancery_attestor");
        series.register("identities", "X509-SVIDs of entries that are held", this.identities.clone());
        series.register("instances", "Processes that are, or want to be, instances", this.instances.clone());
        series.register_with_unit(
            "last_sync_time",
            "Time of the last sync with the CA that succeeded, Unix time; 0 before the first",
            Unit::Seconds,
            this.last_sync.clone(),
        );
        series.register(
            "log_disputed",
            "Whether the CA's newest checkpoint of the record is refused",
            this.log_disputed.clone(),
        );
        series.register("log_epoch", "Epoch of the checkpoint that is kept", this.log_epoch.clone());
        series.register("log_refused", "Checkpoints refused, by why", this.log_refused.clone());
        series.register("log_size", "Events in the checkpoint that is kept", this.log_size.clone());
        series.register("open_streams", "Workload API streams open", this.streams.clone());
        series.register_with_unit(
            "revocation_delay",
            "From the commit of a revocation at the CA until this node refuses what it names",
            Unit::Seconds,
            this.revocation_delay.clone(),
        );
        series.register_with_unit(
            "revocation_delay_max",
            "The longest of these since the start",
            Unit::Seconds,
            this.revocation_delay_max.clone(),
        );
        series.register("states_told", "States told by the CA's stream, full or changes", this.states.clone());
        series.register("svids", "SVIDs received from the CA, by kind", this.svids.clone());
        series.register("syncs", "Polls of the CA, by verdict", this.syncs.clone());
        series.register("workload_attestations", "Looks at a calling process, by verdict", this.attestations.clone());
        series.register_with_unit(
            "workload_call_duration",
            "Time until a Workload API call had its first answer, by method",
            Unit::Seconds,
            this.call_seconds.clone(),
        );
        series.register("workload_calls", "Workload API calls by method and gRPC code", this.calls.clone());
        series.register_collector(Box::new(this.outlook.clone()));
        this.begin_at_zero();
        this
    }

    /// Shows the usual rows before their first event: a rate needs the zero.
    fn begin_at_zero(&self) {
        for verdict in ["known", "changed", "ended", "other_user", "unavailable"] {
            drop(self.attestations.get_or_create(&Verdict { verdict }));
        }
        for verdict in ["ok", "failed"] {
            drop(self.syncs.get_or_create(&Verdict { verdict }));
        }
        for state in ["full", "changes"] {
            drop(self.states.get_or_create(&State { state }));
        }
        for kind in [Issued::Entry, Issued::Instance, Issued::Jwt] {
            drop(self.svids.get_or_create(&Kind { kind: kind.name() }));
        }
        for why in ["another", "cut", "epoch", "forged", "key", "malformed", "unproven"] {
            drop(self.log_refused.get_or_create(&Why { why }));
        }
        for method in ["FetchJWTSVID", "FetchX509SVID"] {
            drop(self.call_seconds.get_or_create(&Method { method }));
            drop(self.calls.get_or_create(&Call { method, code: "OK" }));
        }
    }

    pub(crate) fn attested(&self, verdict: &'static str) {
        self.attestations.get_or_create(&Verdict { verdict }).inc();
    }

    pub(crate) fn called(&self, method: &'static str, code: &'static str, took: Duration) {
        self.call_seconds.get_or_create(&Method { method }).observe(took.as_secs_f64());
        self.calls.get_or_create(&Call { method, code }).inc();
    }

    pub(crate) fn issued(&self, kind: Issued) {
        self.svids.get_or_create(&Kind { kind: kind.name() }).inc();
    }

    /// Counts a checkpoint that is refused.
    pub(crate) fn log_refused(&self, why: &'static str) {
        self.log_refused.get_or_create(&Why { why }).inc();
        self.log_disputed.set(1);
    }

    /// Takes the time of revocations that are in force here from now on (milliseconds since 1970), the oldest of them committed at `at`.
    pub(crate) fn revoked(&self, at: chancery_sdk::time::UnixTime, now_millis: u64) {
        let committed = Duration::from_secs(u64::try_from(at.0).unwrap_or(0));
        let took = Duration::from_millis(now_millis).saturating_sub(committed).as_secs_f64();
        self.revocation_delay.observe(took);
        // One task alone counts these.
        self.revocation_delay_max.set(self.revocation_delay_max.get().max(took));
    }

    /// Counts a state that the stream told.
    pub(crate) fn told(&self, full: bool) {
        self.states.get_or_create(&State { state: if full { "full" } else { "changes" } }).inc();
    }

    /// Counts a poll; `at` is the time of one that succeeded.
    pub(crate) fn synced(&self, at: Option<chancery_sdk::time::UnixTime>) {
        let verdict = if at.is_some() { "ok" } else { "failed" };
        self.syncs.get_or_create(&Verdict { verdict }).inc();
        if let Some(at) = at {
            #[expect(clippy::cast_precision_loss, reason = "Unix seconds fit 53 bits")]
            self.last_sync.set(at.0 as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_sdk::time::UnixTime;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_time_until_a_revocation_is_in_force_is_counted_with_its_longest() {
        let mut registry = Registry::default();
        let metrics = WorkloadMetrics::register(&mut registry);
        // The node's clock is behind in the last one: no time is negative.
        for (at, now_millis) in [(100, 100_750), (100, 104_500), (100, 99_000)] {
            metrics.revoked(UnixTime(at), now_millis);
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let row = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
        assert_eq!(row("chancery_attestor_revocation_delay_seconds_sum "), Some("5.25".into()), "{text}");
        assert_eq!(row("chancery_attestor_revocation_delay_seconds_count "), Some("3".into()));
        assert_eq!(row("chancery_attestor_revocation_delay_max_seconds "), Some("4.5".into()));
    }
}
