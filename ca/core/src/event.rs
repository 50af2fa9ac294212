//! Events: one numbered, canonical record of every change and every issuance.
//!
//! The bytes are RFC 8785 canonical JSON. Only strings, booleans, integers below 2^53, arrays and objects
//! with ASCII keys are ever written, for which serde_json's sorted output is canonical
//! (docs/decisions/0004). Hash: SHA-256(0x00 || bytes), the Merkle leaf.

use std::{collections::BTreeMap, fmt};

use chancery_sdk::time::UnixTime;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use crate::log::tile::MAX_ENTRY_BYTES;

/// Version of the event's JSON.
pub const SCHEMA: u32 = 1;
/// Field of the request id that a caller gave.
pub const FIELD_REQUEST_ID: &str = "request_id";
/// Field of the W3C `traceparent` that came with a request.
pub const FIELD_TRACEPARENT: &str = "traceparent";
/// Most events are shorter.
const TYPICAL_BYTES: usize = 640;

/// What happened, before it has a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Dotted name, for example `instance.begun`.
    pub kind: &'static str,
    /// What it is about: an ID, a name, a fingerprint.
    pub subject: String,
    /// Facts of the kind, public within the operator's organisation.
    pub fields: BTreeMap<&'static str, Value>,
    /// Facts about people (user ids, paths, host names): the record holds salted digests only.
    pub personal: BTreeMap<&'static str, String>,
}

/// Where and when an event enters the log.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The log it belongs to.
    pub epoch: i64,
    /// Gap-free, from 0.
    pub number: i64,
    /// Time of commit.
    pub at: UnixTime,
    /// The server that wrote it.
    pub server: &'a str,
}

/// An event's exact bytes, its hash, and the clear values kept apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 || bytes).
    pub hash: [u8; 32],
    /// (field, salt, clear value), erasable without touching the log.
    pub clear: Vec<(&'static str, [u8; 16], String)>,
}

impl Event {
    /// Starts an event of `kind` about `subject`.
    pub fn new(kind: &'static str, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), ..Self::default() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    /// Adds a fact about a person; only its salted digest enters the record.
    #[must_use]
    pub fn with_personal(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.personal.insert(name, value.into());
        self
    }

    /// Writes the canonical bytes. `salts` yields 16 fresh random bytes for each personal fact.
    ///
    /// An event longer than a leaf of the log may be keeps, instead of its fields, a digest of what it would have been.
    pub fn seal(self, place: Place<'_>, mut salts: impl FnMut() -> [u8; 16]) -> Sealed {
        let mut fields = self.fields;
        let mut clear = Vec::with_capacity(self.personal.len());
        for (name, value) in self.personal {
            let salt = salts();
            let mut digest = Context::new(&SHA256);
            digest.update(&salt);
            digest.update(value.as_bytes());
            fields.insert(name, json!({ "salted_sha256": hex::encode(digest.finish()) }));
            clear.push((name, salt, value));
        }
        let (kind, server, subject) = (Value::from(self.kind), Value::from(place.server), Value::from(self.subject));
        let mut text = written(&fields, &kind, &server, &subject, place);
        if text.len() > MAX_ENTRY_BYTES {
            let cut = json!({ "bytes": text.len(), "sha256": hex::encode(leaf_hash(text.as_bytes())) });
            text = written(&BTreeMap::from([("cut", cut)]), &kind, &server, &subject, place);
            clear.clear();
        }
        let bytes = text.into_bytes();
        let hash = leaf_hash(&bytes);
        Sealed { bytes, hash, clear }
    }
}

/// The keys in order; a tree of them would be made and thrown away for every event.
fn written(
    fields: &BTreeMap<&'static str, Value>,
    kind: &Value,
    server: &Value,
    subject: &Value,
    place: Place<'_>,
) -> String {
    let mut text = String::with_capacity(TYPICAL_BYTES);
    text.push_str(&format!("{{\"at\":{},\"epoch\":{},\"fields\":{{", place.at.0, place.epoch));
    for (place, (name, value)) in fields.iter().enumerate() {
        text.push_str(if place == 0 { "\"" } else { ",\"" });
        text.push_str(name);
        text.push_str("\":");
        write(&mut text, value);
    }
    text.push_str("},\"kind\":");
    write(&mut text, kind);
    text.push_str(&format!(",\"number\":{},\"schema\":{SCHEMA},\"server\":", place.number));
    write(&mut text, server);
    text.push_str(",\"subject\":");
    write(&mut text, subject);
    text.push('}');
    text
}

fn write(text: &mut String, value: &Value) {
    // A String takes everything.
    let _ = fmt::Write::write_fmt(text, format_args!("{value}"));
}

/// The Merkle leaf of an event's bytes.
pub fn leaf_hash(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(bytes);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { epoch: 0, number: 7, at: UnixTime(100), server: "s1" };

    #[test]
    fn bytes_are_canonical_json_with_sorted_keys() {
        let sealed = Event::new("entry.created", "e\u{1}é").with("b", 1).with("a", "x").seal(PLACE, || [0; 16]);
        let want = "{\"at\":100,\"epoch\":0,\"fields\":{\"a\":\"x\",\"b\":1},\"kind\":\"entry.created\",\"number\":7,\"schema\":1,\"server\":\"s1\",\"subject\":\"e\\u0001é\"}";
        assert_eq!(String::from_utf8(sealed.bytes.clone()).unwrap(), want);
        assert_eq!(sealed.hash, leaf_hash(&sealed.bytes));
    }

    #[test]
    fn bytes_are_those_of_a_sorted_tree() {
        let event = Event::new("a.b", "spiffe://td/\"x\"\n\u{1F600}")
            .with("zeta", vec!["a", "b\\"])
            .with("alpha", true)
            .with("none", json!([{"d": 1, "c": -9}]))
            .with_personal("path", "/usr/bin/agent")
            .with_personal("a", "first");
        let tree = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap().to_string().into_bytes();
        let sealed = event.seal(PLACE, || [1; 16]);
        assert_eq!(sealed.bytes, tree(&sealed.bytes));
        let empty = Event::new("k", "").seal(PLACE, || [0; 16]);
        assert_eq!(empty.bytes, tree(&empty.bytes));
    }

    #[test]
    fn an_event_too_long_for_a_leaf_keeps_the_digest_of_what_it_said() {
        let sealed = |length: usize| {
            let event = Event::new("k", "s").with("a", "x".repeat(length)).with("b", 1);
            event.seal(PLACE, || [0; 16])
        };
        let fits = MAX_ENTRY_BYTES - (sealed(0).bytes.len());
        assert_eq!(sealed(fits).bytes.len(), MAX_ENTRY_BYTES);
        let cut: Value = serde_json::from_slice(&sealed(fits + 1).bytes).unwrap();
        assert_eq!(cut["fields"]["cut"]["bytes"], MAX_ENTRY_BYTES + 1);
        assert!(cut["fields"]["a"].is_null() && cut["kind"] == "k");
        assert_ne!(sealed(fits + 1).hash, sealed(fits + 2).hash);
    }

    #[test]
    fn personal_facts_enter_the_record_only_as_salted_digests() {
        let sealed = Event::new("k", "s").with_personal("user", "alice").seal(PLACE, || [9; 16]);
        assert!(!String::from_utf8(sealed.bytes).unwrap().contains("alice"));
        assert_eq!(sealed.clear, vec![("user", [9; 16], "alice".to_string())]);
    }
}
