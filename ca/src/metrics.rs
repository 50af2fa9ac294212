//! The series of the CA, shown from the start at zero, and three of each token.

use std::sync::atomic::{AtomicI64, AtomicU64};

use chancery_core::{detect::Detector, reason::Reason};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    gate::{METHODS, Who},
    signing::Urgency,
    store::ProposalFigures,
};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;

/// Series, each with one meaning.
#[derive(Debug)]
pub struct Metrics {
    /// Attestations by type and verdict.
    pub attestations: Counters,
    /// 1: a CSR for the next authority should go to the ceremony; 2: none signs; 0: nothing is to be done.
    pub authority_csr_due: Gauge<i64, AtomicI64>,
    /// End of the authority in use, by kind; seconds since 1970.
    pub authority_ends: Family<Labels, Gauge<i64, AtomicI64>>,
    /// `spiffe_sequence` of the bundle served.
    pub bundle_sequence: Gauge<i64, AtomicI64>,
    /// Connections open now.
    pub connections: Gauge<i64, AtomicI64>,
    /// Earliest nextUpdate of the lists of revoked certificates; 0 without any.
    pub crl_ends: Gauge<i64, AtomicI64>,
    /// 1: the database lacks what this server has seen of it.
    pub database_behind: Gauge<i64, AtomicI64>,
    /// What a commit survives: 0 no database can be used, 1 a crash, 2 the loss of the machine.
    pub database_durability: Gauge<i64, AtomicI64>,
    /// Number of the last event this server committed.
    pub event_number: Gauge<i64, AtomicI64>,
    /// What detectors found, by what became of it.
    pub findings: Counters,
    /// TLS handshakes by result.
    pub handshakes: Counters,
    /// Seconds that reviewed incidents went on, of all servers.
    pub incidents_dwell: Gauge<i64, AtomicI64>,
    /// Running instances, of all servers.
    pub instances_good: Gauge<i64, AtomicI64>,
    /// 1: the record is not what it was, and nothing more is signed.
    pub log_altered: Gauge<i64, AtomicI64>,
    /// Checkpoints of the record signed and shown.
    pub log_checkpoints: Counter<u64, AtomicU64>,
    /// Reports of nodes that refuse a checkpoint, by what they come to.
    pub log_disputes: Counters,
    /// 1 while this server signs the record.
    pub log_signer: Gauge<i64, AtomicI64>,
    /// Events in the last checkpoint signed here.
    pub log_size: Gauge<i64, AtomicI64>,
    /// Nodes in good standing, of all servers.
    pub nodes_good: Gauge<i64, AtomicI64>,
    /// Proposals of detectors, by what they are, of all servers.
    pub proposals: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Seconds since the first evidence of open ones, of all servers.
    pub proposals_open_age: Gauge<i64, AtomicI64>,
    /// 1 while `/ready` says so.
    pub ready: Gauge<i64, AtomicI64>,
    /// Refusals by reason code.
    pub refusals: Counters,
    /// Time of calls in seconds, by method.
    pub rpc_seconds: Family<Labels, Histogram>,
    /// Calls by method and gRPC code.
    pub rpcs: Counters,
    /// Events that an output of the record has not taken yet, by its name.
    pub siem_behind: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Events that an output took, and pages that failed, by its name.
    pub siem_events: Counters,
    /// SVIDs that were signed and not released: the commit of their event was refused.
    pub signatures_discarded: Counter<u64, AtomicU64>,
    /// SVIDs that were not signed because too many waited, by urgency.
    pub signing_shed: Counters,
    /// SVIDs that wait to be signed.
    pub signing_waiting: Gauge<i64, AtomicI64>,
    /// SVIDs signed, by kind.
    pub svids: Counters,
    /// Initialisations of the module of a token, by its label.
    pub token_generation: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Whether a token signs, by its label.
    pub token_up: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Calls that wait for a token, by its label.
    pub token_waiting: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Whether the upstream signed when it was last asked; 1 without one.
    pub upstream_up: Gauge<i64, AtomicI64>,
    /// Since when the view may lack something, in milliseconds.
    pub view_age_ms: Gauge<i64, AtomicI64>,
    /// Nodes' streams of changes.
    pub watchers: Gauge<i64, AtomicI64>,
    /// The same by how they began.
    pub watches: Counters,
}

impl Metrics {
    /// Makes the series and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            attestations: Family::default(),
            authority_csr_due: Gauge::default(),
            authority_ends: Family::default(),
            bundle_sequence: Gauge::default(),
            connections: Gauge::default(),
            crl_ends: Gauge::default(),
            database_behind: Gauge::default(),
            database_durability: Gauge::default(),
            event_number: Gauge::default(),
            findings: Family::default(),
            handshakes: Family::default(),
            incidents_dwell: Gauge::default(),
            instances_good: Gauge::default(),
            log_altered: Gauge::default(),
            log_checkpoints: Counter::default(),
            log_disputes: Family::default(),
            log_signer: Gauge::default(),
            log_size: Gauge::default(),
            nodes_good: Gauge::default(),
            proposals: Family::default(),
            proposals_open_age: Gauge::default(),
            ready: Gauge::default(),
            refusals: Family::default(),
            rpc_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 14))),
            rpcs: Family::default(),
            siem_behind: Family::default(),
            siem_events: Family::default(),
            signatures_discarded: Counter::default(),
            signing_shed: Family::default(),
            signing_waiting: Gauge::default(),
            svids: Family::default(),
            token_generation: Family::default(),
            token_up: Family::default(),
            token_waiting: Family::default(),
            upstream_up: Gauge::default(),
            view_age_ms: Gauge::default(),
            watchers: Gauge::default(),
            watches: Family::default(),
        };
        let ca = registry.sub_registry_with_prefix("chancery_ca");
        ca.register("attestations", "Attestations by type and verdict", metrics.attestations.clone());
        ca.register(
            "authority_csr_due",
            "Whether a CSR should go to the ceremony: 1 for the next authority, 2 because none signs",
            metrics.authority_csr_due.clone(),
        );
        ca.register(
            "authority_not_after_seconds",
            "End of the authority in use, Unix time",
            metrics.authority_ends.clone(),
        );
        ca.register("bundle_sequence", "Sequence number of the bundle served", metrics.bundle_sequence.clone());
        ca.register("connections", "Connections open now", metrics.connections.clone());
        ca.register("crl_next_update_seconds", "Earliest nextUpdate of the CRLs, Unix time", metrics.crl_ends.clone());
        ca.register(
            "database_behind",
            "Whether the database lacks what this server has seen",
            metrics.database_behind.clone(),
        );
        ca.register(
            "database_durability",
            "What a commit survives: 0 none can be made, 1 a crash, 2 the loss of the machine",
            metrics.database_durability.clone(),
        );
        ca.register("event_number", "Number of the last event committed here", metrics.event_number.clone());
        ca.register("findings", "What detectors found, by what became of it", metrics.findings.clone());
        ca.register("handshakes", "TLS handshakes by result", metrics.handshakes.clone());
        ca.register(
            "incidents_dwell_seconds",
            "Seconds from the beginning of reviewed incidents to what contained them, together",
            metrics.incidents_dwell.clone(),
        );
        ca.register("instances_good", "Running instances", metrics.instances_good.clone());
        ca.register("log_altered", "Whether the record was found altered", metrics.log_altered.clone());
        ca.register("log_checkpoints", "Checkpoints of the record signed", metrics.log_checkpoints.clone());
        ca.register(
            "log_disputes",
            "Reports of nodes that refuse a checkpoint, by verdict",
            metrics.log_disputes.clone(),
        );
        ca.register("log_signer", "Whether this server signs the record", metrics.log_signer.clone());
        ca.register("log_size", "Events in the last checkpoint signed here", metrics.log_size.clone());
        ca.register("nodes_good", "Nodes in good standing", metrics.nodes_good.clone());
        ca.register("proposals", "Proposals of detectors, by state", metrics.proposals.clone());
        ca.register(
            "proposals_open_age_seconds",
            "Seconds since the first evidence of open proposals, together",
            metrics.proposals_open_age.clone(),
        );
        ca.register("ready", "Whether this server signs and sees", metrics.ready.clone());
        ca.register("refusals", "Refusals by reason", metrics.refusals.clone());
        ca.register("rpc_seconds", "Time of calls in seconds", metrics.rpc_seconds.clone());
        ca.register("rpcs", "Calls by method and code", metrics.rpcs.clone());
        ca.register("siem_behind", "Events that an output has not taken yet", metrics.siem_behind.clone());
        ca.register("siem_events", "Events that an output took, and pages that failed", metrics.siem_events.clone());
        ca.register(
            "signatures_discarded",
            "SVIDs signed and not released: their event was refused",
            metrics.signatures_discarded.clone(),
        );
        ca.register("signing_shed", "SVIDs not signed because too many waited", metrics.signing_shed.clone());
        ca.register("signing_waiting", "SVIDs that wait to be signed", metrics.signing_waiting.clone());
        ca.register("svids", "SVIDs signed", metrics.svids.clone());
        ca.register("token_generation", "Initialisations of a token's module", metrics.token_generation.clone());
        ca.register("token_up", "Whether a token signs", metrics.token_up.clone());
        ca.register("token_waiting", "Calls that wait for a token", metrics.token_waiting.clone());
        ca.register("upstream_up", "Whether the upstream signs", metrics.upstream_up.clone());
        ca.register("view_age_milliseconds", "Time since the log was last read", metrics.view_age_ms.clone());
        ca.register("watchers", "Streams of changes to nodes", metrics.watchers.clone());
        ca.register("watches", "Streams of changes by how they began", metrics.watches.clone());
        metrics.begin_at_zero();
        metrics
    }

    /// Shows the usual rows before their first event: a rate needs the zero.
    fn begin_at_zero(&self) {
        let rows: [(_, _, &[&str]); 5] = [
            (&self.handshakes, "result", &["done", "no_slot", "refused", "timeout"]),
            (&self.log_disputes, "verdict", &["consistent", "proven", "unproven"]),
            (&self.signing_shed, "urgency", &["first", "expiring", "unknown", "refresh"]),
            (&self.svids, "kind", &["instance", "jwt", "node", "x509"]),
            (&self.watches, "began", &["new", "refused", "reset", "resumed"]),
        ];
        for (family, label, values) in rows {
            for value in values {
                drop(family.get_or_create(&vec![(label, (*value).to_string())]));
            }
        }
        for reason in Reason::ALL {
            drop(self.refusals.get_or_create(&vec![("reason", reason.code().to_string())]));
        }
        for detector in Detector::ALL {
            for outcome in ["proposed", "known", "dropped"] {
                drop(self.findings.get_or_create(&found(detector, outcome)));
            }
        }
        self.proposed(ProposalFigures::default());
        for kind in ["x509", "jwt"] {
            drop(self.authority_ends.get_or_create(&vec![("kind", kind.to_string())]));
        }
        for (kind, verdict) in
            [("join_token", "admitted"), ("join_token", "denied"), ("tpm", "admitted"), ("tpm", "denied")]
        {
            drop(self.attestations.get_or_create(&vec![("type", kind.to_string()), ("verdict", verdict.to_string())]));
        }
        // What nodes and strangers call; operators' calls are rare, and their rows come with the first one.
        let calls = METHODS.iter().filter(|(_, who)| matches!(who, Who::Anyone | Who::Nodes));
        for method in calls.map(|(method, _)| (*method).to_string()) {
            drop(self.rpc_seconds.get_or_create(&vec![("method", method.clone())]));
            drop(self.rpcs.get_or_create(&vec![("method", method), ("code", "0".to_string())]));
        }
    }

    /// Counts one of `family` under one label.
    pub fn count(family: &Counters, label: &'static str, value: &str) {
        family.get_or_create(&vec![(label, value.to_string())]).inc();
    }

    /// Counts SVIDs that were turned away.
    pub fn shed(&self, urgency: Urgency, svids: usize) {
        let labels = vec![("urgency", urgency.as_str().to_string())];
        self.signing_shed.get_or_create(&labels).inc_by(u64::try_from(svids).unwrap_or(u64::MAX));
    }

    /// Counts something that a detector found.
    pub fn found(&self, detector: Detector, outcome: &'static str) {
        self.findings.get_or_create(&found(detector, outcome)).inc();
    }

    /// Shows what became of proposals.
    pub fn proposed(&self, figures: ProposalFigures) {
        let ProposalFigures { open, open_age_secs, incidents, dwell_secs, false_alarms } = figures;
        for (state, count) in [("open", open), ("incident", incidents), ("false_alarm", false_alarms)] {
            self.proposals.get_or_create(&vec![("state", state.to_string())]).set(count);
        }
        self.proposals_open_age.set(open_age_secs);
        self.incidents_dwell.set(dwell_secs);
    }

    /// Counts one attestation.
    pub fn attested(&self, kind: &str, verdict: &'static str) {
        self.attestations.get_or_create(&vec![("type", kind.to_string()), ("verdict", verdict.to_string())]).inc();
    }

    /// Counts one finished call.
    pub fn called(&self, method: &str, code: &str, seconds: f64) {
        let method = method.to_string();
        self.rpc_seconds.get_or_create(&vec![("method", method.clone())]).observe(seconds);
        self.rpcs.get_or_create(&vec![("method", method), ("code", code.to_string())]).inc();
    }
}

fn found(detector: Detector, outcome: &'static str) -> Labels {
    vec![("detector", detector.to_string()), ("outcome", outcome.to_string())]
}

#[cfg(test)]
mod tests;
