//! Failures that may come by the thousand: counted, and written to the record once a second as summaries.
//!
//! Strangers': they touch no node, for whoever is not proven cannot change anybody's standing. And beginnings that an operator's word
//! refuses: a revoked process may fork as fast as it can.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use chancery_core::reason::Reason;
use chancery_sdk::time::UnixTime;

use crate::{
    limits::Prefix,
    store::{Fact, RefusedBeginnings, RefusedStrangers, Store},
};

/// Most (source, reason) pairs told apart within a second; further sources are summed up as one.
const MAX_PAIRS: usize = 256;
/// Stands for the sources beyond [`MAX_PAIRS`], and for callers without an address.
const OTHERS: &str = "others";

/// Counts until the next flush.
#[derive(Debug, Default)]
pub struct FailureCounter {
    // Guards the counts; held for one increment or swap.
    counts: Mutex<BTreeMap<(String, Reason), u64>>,
    /// By node, class and reason: how often, and what the newest of the processes was.
    // Guards the counts; held for one increment or swap.
    beginnings: Mutex<BTreeMap<(String, String, Reason), (u64, Facts)>>,
}

/// What a node's attestor saw of a process.
type Facts = BTreeMap<&'static str, String>;

impl FailureCounter {
    /// Counts one failure.
    pub fn note(&self, source: Option<IpAddr>, reason: Reason) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = source.map_or_else(|| OTHERS.to_string(), |addr| Prefix::from(addr).to_string());
        let known = counts.len() < MAX_PAIRS || counts.contains_key(&(prefix.clone(), reason));
        let prefix = if known { prefix } else { OTHERS.to_string() };
        *counts.entry((prefix, reason)).or_default() += 1;
    }

    /// Counts a beginning that an operator barred. Node and class are known: their number is bounded by what is registered.
    pub fn barred(&self, node: &str, class: &str, reason: Reason, process: &Facts) {
        let mut counts = self.beginnings.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, newest) = counts.entry((node.into(), class.into(), reason)).or_default();
        *count += 1;
        newest.clone_from(process);
    }

    /// Takes what was barred.
    fn take_barred(&self) -> Vec<RefusedBeginnings> {
        let counts = std::mem::take(&mut *self.beginnings.lock().unwrap_or_else(PoisonError::into_inner));
        let fact =
            |((node, class, reason), (count, process))| RefusedBeginnings { node, class, reason, count, process };
        counts.into_iter().map(fact).collect()
    }

    /// Takes what was counted, as facts of `second`.
    fn take(&self, second: UnixTime) -> Vec<RefusedStrangers> {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let fact = |((source_prefix, reason), count)| RefusedStrangers { source_prefix, reason, count, second };
        counts.into_iter().map(fact).collect()
    }

    /// Writes the summaries to the record. What cannot be written is only logged: it grants nothing.
    pub async fn flush(&self, store: &Store, now: UnixTime) {
        for fact in self.take_barred() {
            let told = format!("{} of {} on {} x{}", fact.reason, fact.class, fact.node, fact.count);
            if let Err(problem) = store.commit(Fact::RefusedBeginnings(fact)).await {
                tracing::warn!(%problem, told, "refused beginnings not recorded");
            }
        }
        for fact in self.take(now) {
            let told = format!("{} from {} x{}", fact.reason, fact.source_prefix, fact.count);
            if let Err(problem) = store.commit(Fact::RefusedStrangers(fact)).await {
                tracing::warn!(%problem, told, "failures not recorded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_second_become_one_fact_for_each_source_and_reason() {
        let counter = FailureCounter::default();
        for _ in 0..3 {
            counter.note(Some([192, 0, 2, 7].into()), Reason::EkUnknown);
        }
        counter.note(Some([192, 0, 2, 9].into()), Reason::QuoteNonce);
        let facts = counter.take(UnixTime(5));
        let told: Vec<_> = facts.iter().map(|f| (f.source_prefix.as_str(), f.reason, f.count)).collect();
        assert_eq!(told, [("192.0.2.0/24", Reason::EkUnknown, 3), ("192.0.2.0/24", Reason::QuoteNonce, 1)]);
        assert!(counter.take(UnixTime(6)).is_empty());
    }

    #[test]
    fn barred_beginnings_of_a_second_become_one_fact_for_each_node_class_and_reason() {
        let counter = FailureCounter::default();
        for pid in 1..=3 {
            counter.barred("n", "a", Reason::ClassClosed, &[("pid", pid.to_string())].into());
        }
        counter.barred("n", "a", Reason::ExecutableRevoked, &Facts::new());
        let facts = counter.take_barred();
        let told: Vec<_> = facts.iter().map(|f| (f.reason, f.count, f.process.get("pid").cloned())).collect();
        assert_eq!(told, [(Reason::ClassClosed, 3, Some("3".into())), (Reason::ExecutableRevoked, 1, None)]);
        assert!(counter.take_barred().is_empty());
    }

    #[test]
    fn many_sources_do_not_grow_the_record_without_bound() {
        let counter = FailureCounter::default();
        for n in 0..2_000_u32 {
            counter.note(Some(std::net::Ipv4Addr::from(n << 8).into()), Reason::EkUnknown);
        }
        let facts = counter.take(UnixTime(5));
        assert!(facts.len() <= MAX_PAIRS + 1);
        assert_eq!(facts.iter().map(|f| f.count).sum::<u64>(), 2_000);
    }
}
