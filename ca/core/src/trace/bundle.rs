//! A trace that can be carried away: events with proofs, and checkpoints that they are proved by.
//!
//! It shows that each event is in the log and that the chain from credential to node is whole. It cannot show that nothing
//! else happened: a revocation that was left out is not missed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{
    event::leaf_hash,
    log::{
        Hash,
        chain::is_clear_value,
        checkpoint::{Checkpoint, CheckpointError},
        note::VerifierKey,
        proof::{Head, is_included},
    },
};

/// Version of the form.
pub const VERSION: u32 = 1;
/// Longest file.
pub const MAX_BYTES: usize = 256 << 20;
/// Most hashes of a proof.
const MAX_PROOF: usize = 64;
/// Most epochs.
const MAX_CHECKPOINTS: usize = 1024;

/// A trace with its proofs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`VERSION`].
    pub version: u32,
    /// What was asked for, for people.
    pub asked: String,
    /// Whether events were left out because there are too many.
    pub cut: bool,
    /// One of each epoch: signed notes.
    pub checkpoints: Vec<String>,
    /// In the record's order.
    pub events: Vec<Proved>,
}

/// An event, and that it is in the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proved {
    /// What it is in the trace.
    pub role: String,
    /// Its exact bytes, which are UTF-8.
    pub event: String,
    /// Hashes beside its way to the root, in hex, from below; none: after the checkpoint.
    pub proof: Option<Vec<String>>,
    /// Clear values of its salted digests, as far as they are not erased.
    pub clear: Vec<Clear>,
}

/// The clear value of a salted digest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The field.
    pub field: String,
    /// In hex.
    pub salt: String,
    /// The value.
    pub value: String,
}

/// What is wrong with a bundle.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum BundleFault {
    /// A checkpoint that no given key signed, or that is none.
    #[error("checkpoint {0}: {1}")]
    Checkpoint(usize, CheckpointError),
    /// A clear value is another one than in the event.
    #[error("event {0}: the value of {1} is not the one in the record")]
    Clear(i64, String),
    /// It has no such form.
    #[error("not a trace: {0}")]
    Form(String),
    /// The chain is broken.
    #[error("event {number} names {what}, and nothing before it here tells of that")]
    Link {
        /// The event.
        number: i64,
        /// What it names.
        what: String,
    },
    /// Its bytes are not in the log.
    #[error("event {0} is not in the log: it or its proof was altered")]
    NotIncluded(i64),
    /// It has no proof.
    #[error("event {0} is after the checkpoint: nothing vouches for it yet; make the trace again")]
    Unproved(i64),
}

/// What a bundle shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// Events, all of them proved.
    pub events: usize,
    /// The logs that they are in, and how large each was.
    pub logs: Vec<(String, u64)>,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`BundleFault::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleFault> {
        if bytes.len() > MAX_BYTES {
            return Err(BundleFault::Form(format!("longer than {MAX_BYTES} bytes")));
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(|e| BundleFault::Form(e.to_string()))?;
        if bundle.version != VERSION {
            return Err(BundleFault::Form(format!("version {} is not {VERSION}", bundle.version)));
        }
        Ok(bundle)
    }

    /// Verifies everything by itself: signatures by `keys`, each event's place, clear values, and the chain.
    ///
    /// # Errors
    /// [`BundleFault`], the first one.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Shown, BundleFault> {
        let logs = self.logs(keys)?;
        let mut last = None;
        let mut chain = Chain::default();
        for proved in &self.events {
            let json: Value = serde_json::from_str(&proved.event).map_err(|e| BundleFault::Form(e.to_string()))?;
            let number = |key: &str| json.get(key).and_then(Value::as_i64).unwrap_or(-1);
            let place = (number("epoch"), number("number"));
            if last.is_some_and(|last| last >= place) {
                return Err(BundleFault::Form(format!("event {} is out of order", place.1)));
            }
            last = Some(place);
            proved.is_in(&logs, place)?;
            for clear in &proved.clear {
                let salt = hex::decode(&clear.salt).unwrap_or_default();
                if !is_clear_value(proved.event.as_bytes(), &clear.field, &salt, &clear.value) {
                    return Err(BundleFault::Clear(place.1, clear.field.clone()));
                }
            }
            chain.follow(&json, place.1, self.cut)?;
        }
        let logs = logs.into_values().map(|(origin, head)| (origin, head.size)).collect();
        Ok(Shown { events: self.events.len(), logs })
    }

    /// By epoch: the log's name and its tree.
    fn logs(&self, keys: &[VerifierKey]) -> Result<BTreeMap<i64, (String, Head)>, BundleFault> {
        if self.checkpoints.len() > MAX_CHECKPOINTS {
            return Err(BundleFault::Form(format!("more than {MAX_CHECKPOINTS} checkpoints")));
        }
        let public: Vec<_> = keys.iter().map(|key| *key.public()).collect();
        // A key is given under the name of one epoch's log; it signs those of the others of the domain too.
        let domain = keys.first().and_then(|key| key.name().rsplit_once('/')).map(|(domain, _)| domain);
        let domain = domain.ok_or_else(|| BundleFault::Form("no key that names a log".into()))?;
        let mut logs = BTreeMap::new();
        for (at, note) in self.checkpoints.iter().enumerate() {
            let claimed = crate::log::note::Note::parse(note.as_bytes()).map_err(CheckpointError::from);
            let claimed = claimed.and_then(|note| Checkpoint::parse(note.unverified_text()));
            let claimed = claimed.map_err(|e| BundleFault::Checkpoint(at, e))?;
            let epoch = claimed.origin.strip_prefix(domain).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
            let wrong = || BundleFault::Form(format!("checkpoint {at} is of {}, not of {domain}", claimed.origin));
            let epoch: i64 = epoch.ok_or_else(wrong)?;
            let opened = Checkpoint::open(note.as_bytes(), &claimed.origin, &public);
            let opened = opened.map_err(|e| BundleFault::Checkpoint(at, e))?;
            logs.insert(epoch, (opened.origin, opened.head));
        }
        Ok(logs)
    }
}

impl Proved {
    fn is_in(&self, logs: &BTreeMap<i64, (String, Head)>, (epoch, number): (i64, i64)) -> Result<(), BundleFault> {
        let (Some(proof), Some((_, head))) = (&self.proof, logs.get(&epoch)) else {
            return Err(BundleFault::Unproved(number));
        };
        let hash = |text: &String| hex::decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let hashes: Option<Vec<Hash>> = if proof.len() > MAX_PROOF { None } else { proof.iter().map(hash).collect() };
        let included = hashes.zip(u64::try_from(number).ok()).is_some_and(|(hashes, index)| {
            is_included(&leaf_hash(self.event.as_bytes()), index, head.size, &head.root, &hashes)
        });
        if included { Ok(()) } else { Err(BundleFault::NotIncluded(number)) }
    }
}

/// What the events before have told of.
#[derive(Default)]
struct Chain {
    /// Names: of nodes that proved themselves, of instances that began, of classes and entries by revision.
    told: BTreeSet<String>,
}

impl Chain {
    /// Each credential's instance, node, class and entry must have been told of.
    fn follow(&mut self, json: &Value, number: i64, cut: bool) -> Result<(), BundleFault> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let field = |name: &str| json.get("fields").and_then(|fields| fields.get(name));
        let named = |name: &str| field(name).and_then(Value::as_str);
        let revision = |name: &str| field(name).and_then(Value::as_i64).unwrap_or(-1);
        let (kind, subject) = (text("kind"), text("subject"));
        let mut wanted = Vec::new();
        match kind {
            "class.created" | "class.updated" | "entry.created" | "entry.updated" => {
                let (group, _) = kind.split_once('.').unwrap_or((kind, ""));
                self.told.insert(format!("{group} {subject} in revision {}", revision("revision")));
            }
            "node.attested" => drop(self.told.insert(format!("the proof of node {subject}"))),
            "instance.begun" => {
                self.told.insert(format!("the beginning of {subject}"));
                wanted.extend(named("class").map(|c| format!("class {c} in revision {}", revision("class_revision"))));
            }
            "instance.ended" | "instance.renewed" | "instance.revoked" => {
                wanted.push(format!("the beginning of {subject}"));
            }
            "jwt.issued" | "svid.issued" | "ca.issued" => {
                wanted.extend(named("entry").map(|e| format!("entry {e} in revision {}", revision("entry_revision"))));
                if named("entry").is_none() {
                    wanted.push(format!("the beginning of {subject}"));
                }
            }
            _ => {}
        }
        if matches!(kind, "instance.begun" | "instance.renewed" | "jwt.issued" | "svid.issued") {
            wanted.extend(named("node").map(|node| format!("the proof of node {node}")));
        }
        match wanted.into_iter().find(|wanted| !cut && !self.told.contains(wanted)) {
            Some(what) => Err(BundleFault::Link { number, what }),
            None => Ok(()),
        }
    }
}
