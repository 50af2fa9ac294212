//! What must hold after every fault: nothing acknowledged is lost, nothing is there twice, the record has no gap.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{load::Received, server::Server};

/// The record of a server's database, parsed.
pub struct Ledger {
    events: Vec<Value>,
}

impl Ledger {
    pub fn of(server: &Server) -> Self {
        let text = server.cli(&["audit", "list"]).unwrap_or_else(|e| panic!("{e}"));
        Self { events: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
    }

    /// Holds what clients received until now against the record that a server has now; answers figures for the report.
    pub fn check(server: &Server, received: &Received) -> String {
        Self::of(server).checked(received)
    }

    fn checked(&self, received: &Received) -> String {
        self.check_numbers();
        let recorded = self.serials();
        let lost: Vec<_> = received.got.iter().filter(|got| !recorded.contains_key(got.serial.as_str())).collect();
        assert!(lost.is_empty(), "{} SVIDs were received and are not in the record: {lost:?}", lost.len());
        let given: BTreeSet<_> = received.got.iter().map(|got| &got.serial).collect();
        assert_eq!(given.len(), received.got.len(), "a serial number was given twice");
        self.check_instances(received);
        let mut by_server = BTreeMap::<usize, u32>::new();
        for got in &received.got {
            *by_server.entry(got.server).or_default() += 1;
        }
        format!(
            "{} SVIDs (by server {by_server:?}) and {} instances received, none lost, none twice; refusals {:?}",
            received.got.len(),
            received.begun.iter().filter(|begun| !begun.ids.is_empty()).count(),
            received.refusals
        )
    }

    fn check_numbers(&self) {
        let number = |event: &Value| event["number"].as_i64().unwrap();
        assert_eq!(self.events.first().map(number), Some(0));
        let gap = self.events.windows(2).find(|pair| number(&pair[1]) != number(&pair[0]) + 1);
        assert!(gap.is_none(), "the record has a gap or a double: {gap:?}");
    }

    /// Serial number -> number of its event.
    fn serials(&self) -> BTreeMap<&str, i64> {
        let rows = self.events.iter().filter_map(|event| {
            let serial = event["fields"]["serial"].as_str()?;
            Some((serial, event["number"].as_i64()?))
        });
        rows.collect()
    }

    /// Each process became one instance, each instance began once.
    fn check_instances(&self, received: &Received) {
        let mut begun = BTreeMap::<&str, u32>::new();
        for event in self.of_kind("instance.begun") {
            *begun.entry(event["subject"].as_str().unwrap()).or_default() += 1;
        }
        for process in &received.begun {
            assert!(process.ids.len() <= 1, "one process became {:?}", process.ids);
            for id in &process.ids {
                assert_eq!(begun.get(id.as_str()), Some(&1), "{id} did not begin once");
            }
        }
        let asked: BTreeSet<_> = received.begun.iter().map(|process| process.token).collect();
        assert!(begun.len() <= asked.len(), "{} instances began for {} processes", begun.len(), asked.len());
    }

    /// Number of the only event of a kind about a subject.
    pub fn number_of(&self, kind: &str, subject: &str) -> i64 {
        let found: Vec<_> = self.of_kind(kind).filter(|event| event["subject"] == subject).collect();
        assert_eq!(found.len(), 1, "{kind} {subject}: {found:?}");
        found[0]["number"].as_i64().unwrap()
    }

    /// Nothing was issued through the node after `number`.
    pub fn check_silent_after(&self, node: &str, number: i64) {
        let after = self.events.iter().find(|event| {
            let issued = event["kind"]
                .as_str()
                .is_some_and(|k| k.ends_with(".issued") || k == "instance.begun" || k == "instance.renewed");
            issued && event["fields"]["node"] == node && event["number"].as_i64().unwrap() > number
        });
        assert!(after.is_none(), "issued after event {number} had refused it: {after:?}");
    }

    pub fn count(&self, kind: &str) -> usize {
        self.of_kind(kind).count()
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["kind"] == kind)
    }
}
