use std::collections::BTreeMap;

use chancery_sdk::time::UnixTime;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;

use super::{
    bundle::{Bundle, BundleFault, Clear, Proved, VERSION},
    *,
};
use crate::{
    event::{Event, Place as EventPlace, Sealed, leaf_hash},
    log::{
        checkpoint::Checkpoint,
        note::{self, VerifierKey},
        proof::{self, Head},
        tile::Tile,
        tree::{Tree, bytes_of},
    },
};

const NODE: &str = "spiffe://td/spire/agent/tpm/aa";
const OTHER: &str = "spiffe://td/spire/agent/tpm/bb";
const ONE: &str = "spiffe://td/agent/refund/0189-1";
const TWO: &str = "spiffe://td/agent/refund/0189-2";

/// A record, as it is written.
#[derive(Default)]
struct Record(Vec<Sealed>);

impl Record {
    fn add(&mut self, event: Event) -> i64 {
        let number = self.0.len() as i64;
        let place = EventPlace { epoch: 0, number, at: UnixTime(1_700_000_000 + number), server: "s1" };
        self.0.push(event.seal(place, || [7; 16]));
        number
    }

    fn attested(&mut self, node: &str) -> i64 {
        self.add(Event::new("node.attested", node).with("serial", "77").with("authority", "aut"))
    }

    fn begun(&mut self, id: &str, node: &str, pid: &str) -> i64 {
        let event = Event::new("instance.begun", id).with("node", node).with("class", "refund");
        let event = event.with("class_revision", 1).with("authority", "aut").with("serial", format!("b{pid}"));
        self.add(event.with_personal("pid", pid))
    }

    fn renewed(&mut self, id: &str, node: &str, serial: &str, request: &str) -> i64 {
        let event = Event::new("instance.renewed", id).with("node", node).with("class", "refund");
        self.add(event.with("authority", "aut").with("serial", serial).with("request_id", request))
    }

    fn seen(&self, mut each: impl FnMut(&Seen<'_>)) {
        for (number, sealed) in self.0.iter().enumerate() {
            let json: Value = serde_json::from_slice(&sealed.bytes).unwrap();
            let clear: Vec<_> =
                sealed.clear.iter().map(|(field, _, value)| (field.to_string(), value.clone())).collect();
            each(&Seen { place: (0, number as i64), json: &json, clear: &clear });
        }
    }

    fn trace(&self, target: Target) -> BTreeMap<Place, Role> {
        let mut finder = Finder::new(target);
        self.seen(|event| finder.take(event));
        let Some(mut collector) = finder.collector() else { return BTreeMap::new() };
        self.seen(|event| {
            collector.take(event);
        });
        assert!(!collector.is_cut());
        collector.end()
    }

    fn numbers(&self, target: Target) -> Vec<i64> {
        self.trace(target).into_keys().map(|(_, number)| number).collect()
    }

    fn bundle(&self, target: Target) -> (Bundle, VerifierKey) {
        let (mut tree, mut tiles) = (Tree::default(), BTreeMap::new());
        for sealed in &self.0 {
            tree.append(leaf_hash(&sealed.bytes), |tile, hashes| drop(tiles.insert(tile, bytes_of(hashes))));
        }
        tiles.extend(tree.partial().map(|(tile, hashes)| (tile, bytes_of(hashes))));
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key = VerifierKey::new("td/0", pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let head = Head { size: tree.size(), root: tree.root() };
        let text = Checkpoint { origin: "td/0".into(), head }.text();
        let signed = note::write(&text, &key, pair.sign(text.as_bytes()).as_ref().try_into().unwrap());
        let proved = |((_, number), role): (Place, Role)| {
            let read = |tile: Tile| tiles.get(&tile).cloned().ok_or(());
            let proof = proof::inclusion(number as u64, tree.size(), read).unwrap();
            let sealed = &self.0[number as usize];
            let clear = sealed.clear.iter().map(|(field, salt, value)| Clear {
                field: field.to_string(),
                salt: hex::encode(salt),
                value: value.clone(),
            });
            Proved {
                role: role.as_str().into(),
                event: String::from_utf8(sealed.bytes.clone()).unwrap(),
                proof: Some(proof.iter().map(hex::encode).collect()),
                clear: clear.collect(),
            }
        };
        let events = self.trace(target).into_iter().map(proved).collect();
        let bundle = Bundle { version: VERSION, asked: "x".into(), cut: false, checkpoints: vec![signed], events };
        (bundle, key)
    }
}

/// Two nodes, one class, two instances; the first node proves itself three times.
fn record() -> Record {
    let mut record = Record::default();
    record.add(Event::new("ek.enrolled", "aa")); // 0
    record.add(Event::new("authority.prepared", "aut")); // 1
    record.add(Event::new("class.created", "refund").with("revision", 1)); // 2
    record.attested(OTHER); // 3
    record.attested(NODE); // 4
    record.attested(NODE); // 5
    record.begun(ONE, NODE, "11"); // 6
    record.attested(NODE); // 7
    record.renewed(ONE, NODE, "c1", "req-1"); // 8
    record.begun(TWO, OTHER, "11"); // 9
    record.renewed(ONE, NODE, "c2", "req-2"); // 10
    record.add(Event::new("instance.revoked", ONE).with("node", NODE)); // 11
    record.attested(NODE); // 12
    record.add(Event::new("entry.created", "e1").with("revision", 3)); // 13
    record
}

fn word(text: &str) -> Target {
    Target::Word(text.into())
}

#[test]
fn a_serial_and_a_request_lead_to_instance_class_nodes_proof_and_authority() {
    let record = record();
    // The beginning with the proof it was on, and the credential with the one it was on.
    assert_eq!(record.numbers(word("c1")), [0, 1, 2, 5, 6, 7, 8, 11]);
    assert_eq!(record.numbers(word("req-2")), [0, 1, 2, 5, 6, 7, 10, 11]);
    assert_eq!(record.numbers(word("nothing")), Vec::<i64>::new());
}

#[test]
fn what_a_detector_proposed_of_an_instance_and_its_review_are_in_its_trace() {
    let mut record = record();
    let proposed = record.add(Event::new("hold.proposed", ONE).with("node", NODE).with("detector", "two_places"));
    let others = record.add(Event::new("hold.proposed", TWO).with("node", OTHER).with("detector", "two_places"));
    let reviewed = record.add(Event::new("proposal.reviewed", ONE).with("proposal", proposed));
    let trace = record.trace(word("c1"));
    for number in [proposed, reviewed] {
        assert!(trace.contains_key(&(0, number)), "{number}");
    }
    assert!(!trace.contains_key(&(0, others)));
}

#[test]
fn a_process_is_found_by_its_pid_on_that_node_only() {
    let record = record();
    let process = |node: &str| Target::Process { node: node.into(), pid: "11".into() };
    assert_eq!(record.numbers(process(OTHER)), [1, 2, 3, 9]);
    assert!(record.numbers(process(NODE)).contains(&6));
}

#[test]
fn since_its_last_proof_a_node_has_what_ran_then_and_what_came_after() {
    let mut record = record();
    let node = |since_quote| Target::Node { id: NODE.into(), since_quote };
    // What ran was revoked before; the proof before the last one comes along, as with any event.
    assert_eq!(record.numbers(node(true)), [0, 1, 7, 12]);
    let three = "spiffe://td/agent/refund/0189-3";
    record.begun(three, NODE, "12"); // 14
    record.attested(NODE); // 15
    record.begun("spiffe://td/agent/refund/0189-4", NODE, "13"); // 16
    assert_eq!(record.numbers(node(true)), [0, 1, 2, 12, 14, 15, 16]);
    let all = record.numbers(node(false));
    assert!([4, 5, 6, 7, 8, 10, 11, 12, 14, 15, 16].iter().all(|n| all.contains(n)) && !all.contains(&9), "{all:?}");
}

#[test]
fn a_bundle_verifies_by_itself() {
    for target in
        [word("c1"), word("req-2"), Target::Id(ONE.into()), Target::Node { id: NODE.into(), since_quote: false }]
    {
        let (bundle, key) = record().bundle(target);
        let text = serde_json::to_vec(&bundle).unwrap();
        let shown = Bundle::parse(&text).unwrap().verify(&[key]).unwrap();
        assert_eq!((shown.events, shown.logs), (bundle.events.len(), vec![("td/0".to_owned(), 14)]));
    }
}

#[test]
fn a_bundle_that_was_touched_does_not() {
    let (whole, key) = record().bundle(word("c1"));
    let fault = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = whole.clone();
        change(&mut bundle);
        bundle.verify(std::slice::from_ref(&key)).unwrap_err()
    };
    let edit = fault(&|b| b.events[6].event = b.events[6].event.replace("c1", "c9"));
    assert_eq!(edit, BundleFault::NotIncluded(8));
    assert_eq!(fault(&|b| b.events[6].proof = None), BundleFault::Unproved(8));
    assert!(matches!(fault(&|b| b.events[6].proof.as_mut().unwrap().clear()), BundleFault::NotIncluded(8)));
    assert!(matches!(fault(&|b| b.events.swap(0, 1)), BundleFault::Form(_)));
    assert!(matches!(fault(&|b| b.events[4].clear[0].value = "12".into()), BundleFault::Clear(6, _)));
    // A link taken out of the chain: the class, the node's proof, the beginning.
    for (event, names) in [(2, "class refund"), (3, "the proof of node"), (4, "the beginning of")] {
        let BundleFault::Link { what, .. } = fault(&|b| drop(b.events.remove(event))) else { panic!("{event}") };
        assert!(what.starts_with(names), "{what}");
    }
    let other = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
    let other = VerifierKey::new("td/0", other.public_key().as_ref().try_into().unwrap()).unwrap();
    assert!(matches!(whole.verify(&[other]), Err(BundleFault::Checkpoint(0, _))));
    let elsewhere = VerifierKey::new("other/0", *key.public()).unwrap();
    assert!(matches!(whole.verify(&[elsewhere]), Err(BundleFault::Form(_))));
    assert!(whole.verify(&[]).is_err());
}
