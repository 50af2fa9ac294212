//! Running instances, as the log tells them: one that ended is not here.
//!
//! About 600 bytes for each, so 150 KB for a node with as many as it may run. What is here may refuse; that an instance
//! runs is granted by the committing transaction alone.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use chancery_core::{
    instance::{Instance, Standing},
    node::CertRef,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use serde::Deserialize;

use super::held;
use crate::store::Logged;

/// A running instance.
#[derive(Clone, Debug)]
pub struct Running {
    /// As the store keeps it; where it was told by an event, `begun_at` is that event's time.
    pub instance: Instance,
    /// SHA-256 of the SubjectPublicKeyInfo of its newest SVID; `None` where no event has told it since this server
    /// began: the committing transaction knows.
    pub key: Option<[u8; 32]>,
    /// Number of the event that said so.
    at: i64,
}

/// Every running instance, by ID and by process.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_id: HashMap<SpiffeId, Arc<Running>>,
    by_node: HashMap<SpiffeId, HashMap<[u8; 32], Arc<Running>>>,
}

/// What an event changes of the running instances.
#[derive(Debug)]
pub(super) enum Moved {
    Begun(Box<Running>),
    Ended {
        id: SpiffeId,
    },
    /// Held until then; `None` = released.
    Held {
        id: SpiffeId,
        until: Option<UnixTime>,
    },
    Renewed {
        id: SpiffeId,
        newest: CertRef,
        key: [u8; 32],
    },
}

impl Instances {
    /// Arranges what the store has; `at` is the number of the newest event that was there before it was read.
    pub(super) fn of(running: Vec<Instance>, at: i64) -> Self {
        let mut all = Self::default();
        for instance in running {
            all.put(Running { instance, key: None, at });
        }
        all
    }

    pub(super) fn one(&self, id: &SpiffeId) -> Option<&Arc<Running>> {
        self.by_id.get(id)
    }

    pub(super) fn of_process(&self, node: &SpiffeId, start_token: &[u8; 32]) -> Option<&Arc<Running>> {
        self.by_node.get(node)?.get(start_token)
    }

    pub(super) fn on_node(&self, node: &SpiffeId) -> impl Iterator<Item = &Arc<Running>> {
        self.by_node.get(node).into_iter().flat_map(HashMap::values)
    }

    /// Applies what event `number` says. Twice is as once: what is newer stays.
    pub(super) fn apply(&mut self, number: i64, moved: &Moved) {
        match moved {
            Moved::Begun(running) => {
                if !self.by_id.contains_key(&running.instance.id) {
                    self.put(Running { at: number, ..(**running).clone() });
                }
            }
            Moved::Ended { id } => self.remove(id),
            Moved::Held { id, until } => {
                if let Some(known) = self.by_id.get(id).filter(|known| known.at < number) {
                    let instance = Instance { held_until: *until, ..known.instance.clone() };
                    self.put(Running { instance, key: known.key, at: number });
                }
            }
            Moved::Renewed { id, newest, key } => {
                if let Some(known) = self.by_id.get(id).filter(|known| known.at < number) {
                    let instance = Instance { newest: newest.clone(), ..known.instance.clone() };
                    self.put(Running { instance, key: Some(*key), at: number });
                }
            }
        }
    }

    fn put(&mut self, mut running: Running) {
        // One text of the node's ID for all of its instances.
        let node = self.by_node.get_key_value(&running.instance.node_id).map(|(node, _)| node.clone());
        running.instance.node_id = node.unwrap_or(running.instance.node_id);
        let running = Arc::new(running);
        let of_node = self.by_node.entry(running.instance.node_id.clone()).or_default();
        of_node.insert(running.instance.start_token, Arc::clone(&running));
        self.by_id.insert(running.instance.id.clone(), running);
    }

    fn remove(&mut self, id: &SpiffeId) {
        let Some(gone) = self.by_id.remove(id) else { return };
        let Some(of_node) = self.by_node.get_mut(&gone.instance.node_id) else { return };
        of_node.remove(&gone.instance.start_token);
        if of_node.is_empty() {
            self.by_node.remove(&gone.instance.node_id);
        }
    }
}

/// What is read of the bytes of `instance.begun`, `.renewed`, `.ended` and `.revoked`.
#[derive(Deserialize)]
struct Told<'a> {
    at: i64,
    #[serde(borrow)]
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    class: Option<Cow<'a, str>>,
    #[serde(borrow)]
    node: Option<Cow<'a, str>>,
    expires_at: Option<i64>,
    #[serde(borrow)]
    serial: Option<Cow<'a, str>>,
    #[serde(borrow)]
    spki_sha256: Option<Cow<'a, str>>,
    #[serde(borrow)]
    start_token: Option<Cow<'a, str>>,
}

impl Moved {
    /// What the event says of a running instance; `None` where it is about something else, or makes no sense.
    pub(super) fn of(logged: &Logged) -> Option<Self> {
        if !logged.kind.starts_with("instance.") {
            return None;
        }
        let id = SpiffeId::parse(&logged.subject).ok()?;
        if is_end(&logged.kind) {
            return Some(Self::Ended { id });
        }
        if let Some(held) = held::told(logged) {
            return Some(Self::Held { id, until: held.until });
        }
        let Told { at, fields } = serde_json::from_slice(&logged.bytes).ok()?;
        let newest = CertRef { serial: fields.serial?.into_owned(), expires_at: UnixTime(fields.expires_at?) };
        let key = digest(&fields.spki_sha256?)?;
        match logged.kind.as_str() {
            "instance.begun" => Some(Self::Begun(Box::new(Running {
                instance: Instance {
                    id,
                    class: fields.class?.parse().ok()?,
                    node_id: SpiffeId::parse(&fields.node?).ok()?,
                    start_token: digest(&fields.start_token?)?,
                    standing: Standing::Good,
                    begun_at: UnixTime(at),
                    ended_at: None,
                    end_reason: String::new(),
                    newest,
                    held_until: None,
                },
                key: Some(key),
                at: logged.number,
            }))),
            "instance.renewed" => Some(Self::Renewed { id, newest, key }),
            _ => None,
        }
    }

    /// The node of an instance that ended.
    pub(super) fn node_of_ended(logged: &Logged) -> Option<SpiffeId> {
        let told: Told<'_> = serde_json::from_slice(&logged.bytes).ok()?;
        SpiffeId::parse(&told.fields.node?).ok()
    }
}

/// Whether an event of this kind says that an instance is over.
pub(super) fn is_end(kind: &str) -> bool {
    matches!(kind, "instance.ended" | "instance.revoked")
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "spiffe://td/agent/a/01890a5d-ac96-774b-bcce-b302099a8001";
    const NODE: &str = "spiffe://td/spire/agent/tpm/n1";

    fn id() -> SpiffeId {
        SpiffeId::parse(ID).unwrap()
    }

    fn logged(number: i64, kind: &str, serial: &str) -> Logged {
        let (key, token) = (hex::encode([serial.len() as u8; 32]), hex::encode([7; 32]));
        let bytes = serde_json::json!({"at": 5, "kind": kind, "fields": {"class": "a", "node": NODE,
            "expires_at": 900, "serial": serial, "spki_sha256": key, "start_token": token}});
        Logged { number, kind: kind.into(), subject: ID.into(), bytes: bytes.to_string().into(), hash: [0; 32] }
    }

    fn apply(all: &mut Instances, number: i64, kind: &str, serial: &str) {
        all.apply(number, &Moved::of(&logged(number, kind, serial)).unwrap());
    }

    #[test]
    fn an_instance_is_found_by_id_and_by_process_until_it_ends() {
        let (mut all, node) = (Instances::default(), SpiffeId::parse(NODE).unwrap());
        apply(&mut all, 1, "instance.begun", "1");
        let known = all.of_process(&node, &[7; 32]).unwrap();
        assert_eq!((known.instance.newest.serial.as_str(), known.key), ("1", Some([1; 32])));
        apply(&mut all, 2, "instance.renewed", "22");
        assert_eq!(all.one(&id()).unwrap().key, Some([2; 32]));
        assert_eq!(all.of_process(&node, &[7; 32]).unwrap().instance.newest.serial, "22");
        assert_eq!(all.on_node(&node).count(), 1);
        apply(&mut all, 3, "instance.ended", "22");
        assert!(all.one(&id()).is_none() && all.of_process(&node, &[7; 32]).is_none());
        assert!(all.by_node.is_empty(), "what ended takes no room");
    }

    #[test]
    fn what_was_applied_ahead_of_the_log_stays_when_the_log_tells_it_again() {
        let mut all = Instances::default();
        apply(&mut all, 1, "instance.begun", "1");
        apply(&mut all, 9, "instance.renewed", "999");
        apply(&mut all, 1, "instance.begun", "1");
        apply(&mut all, 4, "instance.renewed", "4444");
        assert_eq!(all.one(&id()).unwrap().instance.newest.serial, "999");
    }

    #[test]
    fn an_event_that_makes_no_sense_is_nothing() {
        for (kind, subject) in [("instance.begun", "no ID"), ("instance.held", ID), ("entry.created", ID)] {
            let event = Logged { subject: subject.into(), ..logged(1, kind, "1") };
            assert!(Moved::of(&event).is_none(), "{kind} {subject}");
        }
        let event = Logged { bytes: b"{}".to_vec(), ..logged(1, "instance.begun", "1") };
        assert!(Moved::of(&event).is_none());
    }

    #[test]
    fn an_instance_takes_about_600_bytes() {
        // The struct with its counts, the two texts it owns, and a slot in each map.
        let owned = ID.len() + 40 + 8;
        let slots = (size_of::<SpiffeId>() + 8) + (32 + 8);
        assert!(size_of::<Running>() + 16 + owned + 2 * slots <= 600, "{}", size_of::<Running>());
    }
}
