//! A trace: the events that a credential, a process, a node or a request leads to, out of the whole record.
//!
//! Two passes over the events in their order: the first finds those that are asked for and what they name ([`Finder`]), the
//! second those of what was named ([`Collector`]): instance, class, entry, node with its appraisal, authority. Pure; reads
//! are the caller's. What is found goes into a [`bundle::Bundle`], which is verified without the record.

pub mod bundle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::event::{FIELD_REQUEST_ID, FIELD_TRACEPARENT};

/// Most events of a trace; what is asked for comes first.
pub const MAX_EVENTS: usize = 20_000;
/// Longest name that is asked for.
pub const MAX_NAME_BYTES: usize = 2048;

/// An event's place among all: epoch, number.
pub type Place = (i64, i64);

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Whatever an ID that is no node's got: an instance's or an entry's.
    Id(String),
    /// What ran on a node, and how it stood.
    Node {
        /// Its SPIFFE ID.
        id: String,
        /// Only since its last good proof, with what was running then.
        since_quote: bool,
    },
    /// A process on a node, by its pid.
    Process {
        /// The node's SPIFFE ID.
        node: String,
        /// The pid, as the attestor saw it.
        pid: String,
    },
    /// A serial, a request id, or the trace id of a `traceparent`.
    Word(String),
}

impl Target {
    /// Whether an event is asked for, apart from what the log before it says.
    fn hits(&self, event: &Seen<'_>) -> bool {
        match self {
            Self::Id(id) => event.subject() == id || event.field("spiffe_id") == Some(id),
            Self::Node { id, .. } => event.subject() == id || event.field("node") == Some(id),
            Self::Process { node, pid } => {
                event.kind() == "instance.begun"
                    && event.field("node") == Some(node)
                    && event.clear.iter().any(|(field, value)| field == "pid" && value == pid)
            }
            Self::Word(word) => {
                let is_trace = |parent: &str| parent.split('-').nth(1) == Some(word);
                event.field("serial") == Some(word)
                    || event.field(FIELD_REQUEST_ID) == Some(word)
                    || event.field(FIELD_TRACEPARENT).is_some_and(|parent| parent == word || is_trace(parent))
            }
        }
    }

    /// A text that is in the bytes of each event that is hit, so that the others need not be read.
    pub fn needle(&self) -> &str {
        match self {
            Self::Id(id) | Self::Node { id, .. } => id,
            Self::Process { node, .. } => node,
            Self::Word(word) => word,
        }
    }
}

/// An event as it is read, with the clear values that are still there.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Where it is.
    pub place: Place,
    /// Its JSON.
    pub json: &'a Value,
    /// Field and value.
    pub clear: &'a [(String, String)],
}

impl Seen<'_> {
    fn text(&self, key: &str) -> &str {
        self.json.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.text("kind")
    }

    fn subject(&self) -> &str {
        self.text("subject")
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.json.get("fields")?.get(name)?.as_str()
    }
}

/// What the events that are asked for name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Named {
    authorities: BTreeSet<String>,
    classes: BTreeSet<String>,
    entries: BTreeSet<String>,
    instances: BTreeSet<String>,
    /// Each with the first and the last event that is asked for and names it.
    nodes: BTreeMap<String, (Place, Place)>,
}

/// The first pass.
#[derive(Debug)]
pub struct Finder {
    target: Target,
    hits: BTreeSet<Place>,
    named: Named,
    /// Instances that run on the node that is asked for: the event that began them, and what it names.
    running: BTreeMap<String, (Place, Named)>,
    surplus: bool,
}

impl Finder {
    /// Looks for this.
    pub fn new(target: Target) -> Self {
        Self { target, hits: BTreeSet::new(), named: Named::default(), running: BTreeMap::new(), surplus: false }
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &Seen<'_>) {
        if !self.target.hits(event) {
            return;
        }
        if let Target::Node { id, since_quote: true } = &self.target {
            let is_proof = event.kind() == "node.attested" && event.subject() == id;
            match event.kind() {
                "instance.begun" => {
                    let mut named = Named::default();
                    named.take(event);
                    self.running.insert(event.subject().to_owned(), (event.place, named));
                }
                "instance.ended" | "instance.revoked" => drop(self.running.remove(event.subject())),
                _ => {}
            }
            if is_proof {
                // What was before it counts no more, but for what runs on.
                self.hits = self.running.values().map(|(place, _)| *place).collect();
                self.named = Named::default();
                self.running.values().for_each(|(_, named)| self.named.merge(named));
                self.surplus = false;
            }
        }
        if self.hits.len() == MAX_EVENTS {
            self.surplus = true;
            // The newest are kept: what happened last is asked for most.
            self.hits.pop_first();
        }
        self.hits.insert(event.place);
        self.named.take(event);
    }

    /// Goes on with the second pass; `None` where nothing was found.
    pub fn collector(self) -> Option<Collector> {
        if self.hits.is_empty() {
            return None;
        }
        let Self { hits, named, surplus, .. } = self;
        Some(Collector { hits, named, surplus, before: BTreeMap::new(), kept: BTreeMap::new() })
    }
}

impl Named {
    /// What was named before this, too.
    fn merge(&mut self, older: &Self) {
        self.authorities.extend(older.authorities.iter().cloned());
        self.classes.extend(older.classes.iter().cloned());
        self.entries.extend(older.entries.iter().cloned());
        self.instances.extend(older.instances.iter().cloned());
        for (node, (first, last)) in &older.nodes {
            let span = self.nodes.entry(node.clone()).or_insert((*first, *last));
            *span = (span.0.min(*first), span.1.max(*last));
        }
    }

    fn take(&mut self, event: &Seen<'_>) {
        let subject = event.subject();
        if event.kind().starts_with("instance.") || subject.contains("/agent/") && !is_node(subject) {
            self.instances.insert(subject.to_owned());
        }
        let node = if event.kind().starts_with("node.") { Some(subject) } else { event.field("node") };
        if let Some(node) = node.filter(|node| is_node(node)) {
            let span = self.nodes.entry(node.to_owned()).or_insert((event.place, event.place));
            span.1 = event.place;
        }
        let note = |field, set: &mut BTreeSet<String>| set.extend(event.field(field).map(str::to_owned));
        note("authority", &mut self.authorities);
        note("class", &mut self.classes);
        note("entry", &mut self.entries);
    }
}

/// Whether an ID is in the namespace of nodes.
pub fn is_node(id: &str) -> bool {
    id.strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, path)| path.starts_with("spire/"))
}

/// The second pass.
#[derive(Debug)]
pub struct Collector {
    hits: BTreeSet<Place>,
    named: Named,
    surplus: bool,
    /// By node: its last proof, while nothing that is kept was issued on it; a later one takes its place.
    before: BTreeMap<String, Place>,
    kept: BTreeMap<Place, Role>,
}

/// What an event is in a trace.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// It is asked for.
    Asked,
    /// It tells of the authority that signed.
    Authority,
    /// It tells of the class.
    Class,
    /// It tells of the entry.
    Entry,
    /// It tells of the instance.
    Instance,
    /// It tells of the node.
    Node,
}

impl Role {
    /// Its word in a bundle.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Authority => "authority",
            Self::Class => "class",
            Self::Entry => "entry",
            Self::Instance => "instance",
            Self::Node => "node",
        }
    }
}

impl Collector {
    /// Whether events are missing because there are too many.
    pub fn is_cut(&self) -> bool {
        self.surplus
    }

    /// Takes the next event; whether it may be of the trace, and [`Collector::end`] may ask for it.
    pub fn take(&mut self, event: &Seen<'_>) -> bool {
        let Some(role) = self.role(event) else { return false };
        if self.kept.len() >= MAX_EVENTS.saturating_mul(2) {
            self.surplus = true;
            return false;
        }
        self.kept.insert(event.place, role);
        if role != Role::Node
            && let Some(node) = event.field("node")
        {
            self.before.remove(node);
        }
        true
    }

    fn role(&mut self, event: &Seen<'_>) -> Option<Role> {
        if self.hits.contains(&event.place) {
            return Some(Role::Asked);
        }
        let (subject, kind) = (event.subject(), event.kind());
        let (group, _) = kind.split_once('.')?;
        match group {
            "authority" if self.named.authorities.contains(subject) => Some(Role::Authority),
            "class" if self.named.classes.contains(subject) => Some(Role::Class),
            "ek" | "key" => {
                let enrols = kind.ends_with(".enrolled");
                let of = |node: &String| enrols && node.ends_with(subject) && !subject.is_empty();
                self.named.nodes.keys().any(of).then_some(Role::Node)
            }
            "entry" if self.named.entries.contains(subject) => Some(Role::Entry),
            "hold" | "instance" | "proposal"
                if self.named.instances.contains(subject) && kind != "instance.renewed" =>
            {
                Some(Role::Instance)
            }
            "node" => self.node(event),
            _ => None,
        }
    }

    /// Of a node that is named: its last proof before, and what it did until the last event that is asked for.
    fn node(&mut self, event: &Seen<'_>) -> Option<Role> {
        let (first, last) = self.named.nodes.get(event.subject())?;
        if event.place > *last || matches!(event.kind(), "node.activated" | "node.version") {
            return None;
        }
        if event.place > *first {
            return Some(Role::Node);
        }
        if event.kind() != "node.attested" {
            return None;
        }
        if let Some(older) = self.before.insert(event.subject().to_owned(), event.place) {
            self.kept.remove(&older);
        }
        Some(Role::Node)
    }

    /// What is kept so far.
    pub fn roles(&self) -> &BTreeMap<Place, Role> {
        &self.kept
    }

    /// The events of the trace, in order, and what each is.
    pub fn end(self) -> BTreeMap<Place, Role> {
        self.kept
    }
}
