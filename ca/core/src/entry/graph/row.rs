//! An entry as the graph keeps it: texts that many entries share stand once, and are numbers here.

use std::sync::Arc;

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use uuid::Uuid;

use super::slab::{Keyed, NONE};
use crate::entry::{Entry, Rights};

/// An entry's ID; most are UUIDs, and those need no text.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum EntryId {
    Text(Box<str>),
    Uuid([u8; 16]),
}

/// An ID that entries have or have for their parent, and the lists that begin at it.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) id: SpiffeId,
    /// Entries that name it.
    pub(super) uses: u32,
    /// First row of the entries with this ID.
    pub(super) own: u32,
    /// First row of the entries with this parent.
    pub(super) children: u32,
}

/// A selector, as text: its type has no colon, so the text is the whole of it.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) text: Arc<str>,
    /// Entries that name it.
    pub(super) uses: u32,
}

/// Neighbours in a list of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) before: u32,
    pub(super) after: u32,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: EntryId,
    /// Number of its SPIFFE ID's name.
    pub(super) name: u32,
    /// Number of its parent's name.
    pub(super) parent: u32,
    /// Among the entries of the same name.
    pub(super) own: Link,
    /// Among the entries of the same parent.
    pub(super) sibling: Link,
    /// Numbers of its selectors.
    pub(super) facts: Box<[u32]>,
    ttl: [i64; 2],
    created_at: UnixTime,
    revision: i64,
    rare: Option<Box<Rare>>,
}

/// What few entries have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    federates_with: Vec<TrustDomain>,
    rights: Rights,
    expires_at: Option<UnixTime>,
    dns_names: Vec<String>,
    hint: String,
    store_svid: bool,
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

impl Link {
    pub(super) const ALONE: Self = Self { before: NONE, after: NONE };
}

impl EntryId {
    pub(super) fn new(text: &str) -> Self {
        match Uuid::try_parse(text) {
            // Only the form that prints back as it was.
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text => {
                Self::Uuid(*uuid.as_bytes())
            }
            _ => Self::Text(text.into()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string(),
        }
    }
}

impl Name {
    pub(super) fn new(id: &SpiffeId) -> Self {
        Self { id: id.clone(), uses: 0, own: NONE, children: NONE }
    }
}

impl Row {
    /// The entry, in no list yet.
    pub(super) fn new(entry: Entry, name: u32, parent: u32, facts: Box<[u32]>) -> Self {
        let rare = Rare {
            federates_with: entry.federates_with,
            rights: entry.rights,
            expires_at: entry.expires_at,
            dns_names: entry.dns_names,
            hint: entry.hint,
            store_svid: entry.store_svid,
            disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
            jwt_svid_include_jti: entry.jwt_svid_include_jti,
        };
        Self {
            id: EntryId::new(&entry.id),
            name,
            parent,
            own: Link::ALONE,
            sibling: Link::ALONE,
            facts,
            ttl: [entry.x509_svid_ttl, entry.jwt_svid_ttl],
            created_at: entry.created_at,
            revision: entry.revision,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }

    /// The entry again.
    pub(super) fn entry(&self, name: &SpiffeId, parent: &SpiffeId, facts: &[&str]) -> Entry {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        let [x509_svid_ttl, jwt_svid_ttl] = self.ttl;
        Entry {
            id: self.id.text(),
            spiffe_id: name.clone(),
            parent_id: parent.clone(),
            selectors: facts.iter().filter_map(|text| text.parse().ok()).collect(),
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with: rare.federates_with,
            rights: rare.rights,
            expires_at: rare.expires_at,
            dns_names: rare.dns_names,
            hint: rare.hint,
            store_svid: rare.store_svid,
            disable_x509_svid_prefetch: rare.disable_x509_svid_prefetch,
            jwt_svid_include_jti: rare.jwt_svid_include_jti,
            revision: self.revision,
            created_at: self.created_at,
        }
    }
}

impl Keyed for Row {
    type Key = EntryId;

    fn key(&self) -> &EntryId {
        &self.id
    }
}

impl Keyed for Name {
    type Key = str;

    fn key(&self) -> &str {
        self.id.as_str()
    }
}

impl Keyed for Fact {
    type Key = str;

    fn key(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        for text in ["e1", "0192f0c1-2b3c-7d4e-8f50-112233445566", "0192F0C1-2B3C-7D4E-8F50-112233445566"] {
            assert_eq!(EntryId::new(text).text(), text);
        }
        assert_ne!(EntryId::new("0192f0c12b3c7d4e8f50112233445566").text().len(), 36, "without hyphens it is a text");
    }
}
