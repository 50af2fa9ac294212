//! Validation of entries: what an operator asks for becomes an [`Entry`] or an error that says why not.

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use thiserror::Error;

use super::{
    Entry, Rights,
    dns::{DnsNameError, check_dns_name},
};
use crate::{
    ids::{self, PlaceError},
    selector::Selectors,
};

/// Longest entry ID in bytes.
pub const MAX_ENTRY_ID_BYTES: usize = 255;
/// Longest hint in bytes (WA-71).
pub const MAX_HINT_BYTES: usize = 1024;
/// Most selectors of one entry or class; Kubernetes yields at most 30 facts of one workload.
pub const MAX_SELECTORS: usize = 64;
/// Most DNS names of one entry.
pub const MAX_DNS_NAMES: usize = 64;
/// Most federated trust domains of one entry.
pub const MAX_FEDERATED: usize = 64;
/// Longest lifetime an entry may ask for, in seconds; SPIRE's field has 32 bits.
const MAX_TTL_SECS: i64 = i32::MAX as i64;

/// An entry as asked for, its texts parsed and nothing more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft {
    /// Empty: the server chooses.
    pub id: String,
    /// `None` where the request names none.
    pub spiffe_id: Option<SpiffeId>,
    /// `None` where the request names none.
    pub parent_id: Option<SpiffeId>,
    /// May be empty.
    pub selectors: Selectors,
    /// Seconds.
    pub x509_svid_ttl: i64,
    /// Seconds.
    pub jwt_svid_ttl: i64,
    /// Foreign domains.
    pub federates_with: Vec<TrustDomain>,
    /// Rights towards the CA.
    pub rights: Rights,
    /// Unix seconds; 0 = never.
    pub expires_at: i64,
    /// In order.
    pub dns_names: Vec<String>,
    /// Any text.
    pub hint: String,
    /// For SPIRE's SVID stores.
    pub store_svid: bool,
    /// Issue X.509 only on subscription.
    pub disable_x509_svid_prefetch: bool,
    /// Give JWT-SVIDs a `jti`.
    pub jwt_svid_include_jti: bool,
}

/// Which fields of a draft count, in an update; also which fields of an entry are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // one name per field of `Entry`
pub struct Mask {
    pub spiffe_id: bool,
    pub parent_id: bool,
    pub selectors: bool,
    pub x509_svid_ttl: bool,
    pub jwt_svid_ttl: bool,
    pub federates_with: bool,
    pub admin: bool,
    pub downstream: bool,
    pub expires_at: bool,
    pub dns_names: bool,
    pub hint: bool,
    pub store_svid: bool,
    pub additional_attributes: bool,
    pub revision: bool,
    pub created_at: bool,
}

impl Mask {
    /// No field: a start for masks of a few.
    pub const NONE: Self = Self {
        spiffe_id: false,
        parent_id: false,
        selectors: false,
        x509_svid_ttl: false,
        jwt_svid_ttl: false,
        federates_with: false,
        admin: false,
        downstream: false,
        expires_at: false,
        dns_names: false,
        hint: false,
        store_svid: false,
        additional_attributes: false,
        revision: false,
        created_at: false,
    };
    /// Every field: what an absent mask means.
    pub const ALL: Self = Self {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        jwt_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        hint: true,
        store_svid: true,
        additional_attributes: true,
        revision: true,
        created_at: true,
    };
}

/// Why an entry is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[allow(missing_docs)] // the messages say it
pub enum EntryError {
    #[error(transparent)]
    DnsName(#[from] DnsNameError),
    #[error("expires_at {0} is before 1970")]
    Expiry(i64),
    #[error("federates_with names our own trust domain {0}")]
    FederatesWithSelf(TrustDomain),
    #[error("hint of {0} bytes exceeds {MAX_HINT_BYTES} bytes")]
    HintTooLong(usize),
    #[error("entry ID must be 1 to {MAX_ENTRY_ID_BYTES} of A-Z a-z 0-9 . - _")]
    Id,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("parent_id: {0}")]
    Parent(#[source] PlaceError),
    #[error("an entry needs at least one selector")]
    SelectorsMissing,
    #[error("spiffe_id: {0}")]
    SpiffeId(#[source] PlaceError),
    #[error("store_svid cannot go with disable_x509_svid_prefetch")]
    StoreSvidPrefetch,
    #[error("store_svid needs selectors of one type")]
    StoreSvidTypes,
    #[error("{0} {1} exceed {2}")]
    TooMany(usize, &'static str, usize),
    #[error("{0} of {1} s must lie between 0 and {MAX_TTL_SECS} s")]
    Ttl(&'static str, i64),
}

/// A draft whose masked fields met every rule; only [`check`] makes it.
#[derive(Clone, Debug)]
pub struct Checked {
    draft: Draft,
    mask: Mask,
}

/// Checks the fields of a draft that the mask selects.
///
/// # Errors
/// [`EntryError`] naming the first rule broken.
///
/// Source: spire-wire 4.1; conformance WA-71, ID-24 (by the type of the IDs).
pub fn check(draft: Draft, mask: Mask, domain: &TrustDomain) -> Result<Checked, EntryError> {
    if mask.spiffe_id {
        let id = draft.spiffe_id.as_ref().ok_or(EntryError::Missing("spiffe_id"))?;
        ids::check_workload(id, domain).map_err(EntryError::SpiffeId)?;
    }
    if mask.parent_id {
        let id = draft.parent_id.as_ref().ok_or(EntryError::Missing("parent_id"))?;
        ids::check_member(id, domain).map_err(EntryError::Parent)?;
    }
    if mask.selectors {
        check_selectors(&draft.selectors)?;
    }
    check_ttl(mask.x509_svid_ttl, "x509_svid_ttl", draft.x509_svid_ttl)?;
    check_ttl(mask.jwt_svid_ttl, "jwt_svid_ttl", draft.jwt_svid_ttl)?;
    if mask.federates_with {
        check_federation(&draft.federates_with, domain)?;
    }
    if mask.expires_at && draft.expires_at < 0 {
        return Err(EntryError::Expiry(draft.expires_at));
    }
    if mask.dns_names {
        bound(draft.dns_names.len(), "DNS names", MAX_DNS_NAMES)?;
        draft.dns_names.iter().try_for_each(|name| check_dns_name(name))?;
    }
    if mask.hint && draft.hint.len() > MAX_HINT_BYTES {
        return Err(EntryError::HintTooLong(draft.hint.len()));
    }
    // SPIRE compares the selectors an update carries, also where the mask leaves them out.
    if mask.store_svid && draft.store_svid && !of_one_kind(&draft.selectors) {
        return Err(EntryError::StoreSvidTypes);
    }
    Ok(Checked { draft, mask })
}

impl Checked {
    /// Makes a new entry; `id` is used where the draft names none.
    ///
    /// # Errors
    /// [`EntryError::Id`], [`EntryError::StoreSvidPrefetch`], and [`EntryError::Missing`] where the mask left a needed field out.
    pub fn create(self, id: &str, now: UnixTime) -> Result<Entry, EntryError> {
        let draft = self.draft;
        let id = if draft.id.is_empty() { id.to_owned() } else { draft.id };
        check_entry_id(&id)?;
        if draft.store_svid && draft.disable_x509_svid_prefetch {
            return Err(EntryError::StoreSvidPrefetch);
        }
        if draft.selectors.is_empty() {
            return Err(EntryError::SelectorsMissing);
        }
        Ok(Entry {
            id,
            spiffe_id: draft.spiffe_id.ok_or(EntryError::Missing("spiffe_id"))?,
            parent_id: draft.parent_id.ok_or(EntryError::Missing("parent_id"))?,
            selectors: draft.selectors,
            x509_svid_ttl: draft.x509_svid_ttl,
            jwt_svid_ttl: draft.jwt_svid_ttl,
            federates_with: draft.federates_with,
            rights: draft.rights,
            expires_at: (draft.expires_at > 0).then_some(UnixTime(draft.expires_at)),
            dns_names: draft.dns_names,
            hint: draft.hint,
            store_svid: draft.store_svid,
            disable_x509_svid_prefetch: draft.disable_x509_svid_prefetch,
            jwt_svid_include_jti: draft.jwt_svid_include_jti,
            revision: 0,
            created_at: now,
        })
    }

    /// The ID the draft names; may be empty.
    pub fn id(&self) -> &str {
        &self.draft.id
    }

    /// Foreign domains the change would leave the entry with, where it changes them.
    pub fn federates_with(&self) -> &[TrustDomain] {
        if self.mask.federates_with { &self.draft.federates_with } else { &[] }
    }

    /// Lays the masked fields over an entry; the revision grows by one even where nothing changes.
    pub fn apply(self, current: &Entry) -> Entry {
        let (draft, mask) = (self.draft, self.mask);
        let mut entry = current.clone();
        if let Some(id) = draft.spiffe_id.filter(|_| mask.spiffe_id) {
            entry.spiffe_id = id;
        }
        if let Some(id) = draft.parent_id.filter(|_| mask.parent_id) {
            entry.parent_id = id;
        }
        put(&mut entry.selectors, draft.selectors, mask.selectors);
        put(&mut entry.x509_svid_ttl, draft.x509_svid_ttl, mask.x509_svid_ttl);
        put(&mut entry.jwt_svid_ttl, draft.jwt_svid_ttl, mask.jwt_svid_ttl);
        put(&mut entry.federates_with, draft.federates_with, mask.federates_with);
        put(&mut entry.rights.admin, draft.rights.admin, mask.admin);
        put(&mut entry.rights.downstream, draft.rights.downstream, mask.downstream);
        put(&mut entry.expires_at, (draft.expires_at > 0).then_some(UnixTime(draft.expires_at)), mask.expires_at);
        put(&mut entry.dns_names, draft.dns_names, mask.dns_names);
        put(&mut entry.hint, draft.hint, mask.hint);
        put(&mut entry.store_svid, draft.store_svid, mask.store_svid);
        put(&mut entry.disable_x509_svid_prefetch, draft.disable_x509_svid_prefetch, mask.additional_attributes);
        put(&mut entry.jwt_svid_include_jti, draft.jwt_svid_include_jti, mask.additional_attributes);
        entry.revision = entry.revision.saturating_add(1);
        entry
    }
}

fn put<T>(field: &mut T, value: T, chosen: bool) {
    if chosen {
        *field = value;
    }
}

/// Checks an entry ID's form.
///
/// # Errors
/// [`EntryError::Id`].
pub fn check_entry_id(id: &str) -> Result<(), EntryError> {
    let fits = (1..=MAX_ENTRY_ID_BYTES).contains(&id.len());
    if fits && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Ok(());
    }
    Err(EntryError::Id)
}

fn check_selectors(selectors: &Selectors) -> Result<(), EntryError> {
    if selectors.is_empty() {
        return Err(EntryError::SelectorsMissing);
    }
    bound(selectors.len(), "selectors", MAX_SELECTORS)
}

fn check_ttl(chosen: bool, name: &'static str, ttl: i64) -> Result<(), EntryError> {
    if chosen && !(0..=MAX_TTL_SECS).contains(&ttl) {
        return Err(EntryError::Ttl(name, ttl));
    }
    Ok(())
}

fn check_federation(names: &[TrustDomain], domain: &TrustDomain) -> Result<(), EntryError> {
    bound(names.len(), "federated trust domains", MAX_FEDERATED)?;
    if names.contains(domain) {
        return Err(EntryError::FederatesWithSelf(domain.clone()));
    }
    Ok(())
}

fn bound(count: usize, what: &'static str, max: usize) -> Result<(), EntryError> {
    if count > max { Err(EntryError::TooMany(count, what, max)) } else { Ok(()) }
}

fn of_one_kind(selectors: &Selectors) -> bool {
    let mut kinds = selectors.iter().map(crate::selector::Selector::kind);
    let Some(first) = kinds.next() else { return true };
    kinds.all(|kind| kind == first)
}
