use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What the enrolment task counts.
#[derive(Clone, Debug, Default)]
pub struct EnrolMetrics {
    attempts: Family<Outcome, Counter>,
    not_after: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

impl EnrolMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self::default();
        registry.register(
            "chancery_attestor_enrolments",
            "Attestations and renewals of the node, by outcome",
            metrics.attempts.clone(),
        );
        registry.register(
            "chancery_attestor_node_svid_not_after_seconds",
            "End of the node's SVID in Unix time; 0 without standing",
            metrics.not_after.clone(),
        );
        // Rows before their first event: a rate needs the zero.
        for outcome in ["admitted", "failed"] {
            drop(metrics.attempts.get_or_create(&Outcome { outcome }));
        }
        Arc::new(metrics)
    }

    pub(super) fn admitted(&self, not_after: i64) {
        self.count("admitted");
        #[expect(clippy::cast_precision_loss, reason = "Unix seconds fit 53 bits")]
        self.not_after.set(not_after as f64);
    }

    pub(super) fn failed(&self) {
        self.count("failed");
    }

    pub(super) fn lost(&self) {
        self.not_after.set(0.0);
    }

    fn count(&self, outcome: &'static str) {
        self.attempts.get_or_create(&Outcome { outcome }).inc();
    }
}
