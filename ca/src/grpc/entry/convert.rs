//! Entries, masks and filters between wire and core.

use std::collections::BTreeSet;

use chancery_core::{
    entry::{Draft, Entry, Filter, Mask, Match, Rights},
    selector::{Selector, Selectors},
};
use chancery_proto::spire::api::{server::entry::v1::list_entries_request, types};
use chancery_sdk::id::TrustDomain;
use tonic::Status;

use crate::grpc::wire;

/// Reads an entry's texts; only the fields the mask selects must be readable.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn draft(entry: types::Entry, mask: Mask) -> Result<Draft, Status> {
    let spiffe_id = mask.spiffe_id.then(|| wire::spiffe_id(entry.spiffe_id.as_ref(), "spiffe_id")).transpose()?;
    let parent_id = mask.parent_id.then(|| wire::spiffe_id(entry.parent_id.as_ref(), "parent_id")).transpose()?;
    let federates_with = if mask.federates_with { domains(&entry.federates_with)? } else { Vec::new() };
    let attributes = entry.additional_attributes.unwrap_or_default();
    Ok(Draft {
        id: entry.id,
        spiffe_id,
        parent_id,
        selectors: if mask.selectors || mask.store_svid { selectors(&entry.selectors)? } else { Selectors::new() },
        x509_svid_ttl: entry.x509_svid_ttl.into(),
        jwt_svid_ttl: entry.jwt_svid_ttl.into(),
        federates_with,
        rights: Rights { admin: entry.admin, downstream: entry.downstream },
        expires_at: entry.expires_at,
        dns_names: entry.dns_names,
        hint: entry.hint,
        store_svid: entry.store_svid,
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
    })
}

/// Reads selectors.
///
/// # Errors
/// INVALID_ARGUMENT. Source: spire-wire 1.0.6.
pub fn selectors(list: &[types::Selector]) -> Result<Selectors, Status> {
    let read = |s: &types::Selector| Selector::new(&s.r#type, &s.value);
    list.iter().map(read).collect::<Result<_, _>>().map_err(|e| Status::invalid_argument(e.to_string()))
}

fn domains(names: &[String]) -> Result<Vec<TrustDomain>, Status> {
    let read = |name: &String| {
        TrustDomain::from_name_or_id(name).map_err(|e| Status::invalid_argument(format!("trust domain '{name}': {e}")))
    };
    let mut seen = BTreeSet::new();
    let list: Vec<TrustDomain> = names.iter().map(read).collect::<Result<_, _>>()?;
    Ok(list.into_iter().filter(|domain| seen.insert(domain.clone())).collect())
}

/// Reads a mask; absent means every field.
pub fn mask(mask: Option<&types::EntryMask>) -> Mask {
    let Some(mask) = mask else { return Mask::ALL };
    Mask {
        spiffe_id: mask.spiffe_id,
        parent_id: mask.parent_id,
        selectors: mask.selectors,
        x509_svid_ttl: mask.x509_svid_ttl,
        jwt_svid_ttl: mask.jwt_svid_ttl,
        federates_with: mask.federates_with,
        admin: mask.admin,
        downstream: mask.downstream,
        expires_at: mask.expires_at,
        dns_names: mask.dns_names,
        hint: mask.hint,
        store_svid: mask.store_svid,
        additional_attributes: mask.additional_attributes,
        revision: mask.revision_number,
        created_at: mask.created_at,
    }
}

/// Writes an entry, cut by the mask; the ID is always shown.
pub fn entry(entry: &Entry, mask: Mask) -> types::Entry {
    let attributes = types::entry::AdditionalAttributes {
        disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
        jwt_svid_include_jti: entry.jwt_svid_include_jti,
    };
    types::Entry {
        id: entry.id.clone(),
        spiffe_id: mask.spiffe_id.then(|| wire::spiffe_id_parts(&entry.spiffe_id)),
        parent_id: mask.parent_id.then(|| wire::spiffe_id_parts(&entry.parent_id)),
        selectors: shown(mask.selectors, || wire::selectors(&entry.selectors)),
        x509_svid_ttl: shown(mask.x509_svid_ttl, || seconds(entry.x509_svid_ttl)),
        federates_with: shown(mask.federates_with, || entry.federates_with.iter().map(|d| d.name().into()).collect()),
        admin: mask.admin && entry.rights.admin,
        downstream: mask.downstream && entry.rights.downstream,
        expires_at: shown(mask.expires_at, || entry.expires_at.map_or(0, |at| at.0)),
        dns_names: shown(mask.dns_names, || entry.dns_names.clone()),
        revision_number: shown(mask.revision, || entry.revision),
        store_svid: mask.store_svid && entry.store_svid,
        jwt_svid_ttl: shown(mask.jwt_svid_ttl, || seconds(entry.jwt_svid_ttl)),
        hint: shown(mask.hint, || entry.hint.clone()),
        created_at: shown(mask.created_at, || entry.created_at.0),
        additional_attributes: mask.additional_attributes.then_some(attributes),
    }
}

fn shown<T: Default>(chosen: bool, value: impl FnOnce() -> T) -> T {
    if chosen { value() } else { T::default() }
}

/// Lifetimes were bounded by 32 bits when the entry was made.
pub fn seconds(ttl: i64) -> i32 {
    i32::try_from(ttl).unwrap_or(i32::MAX)
}

/// Reads a filter.
///
/// # Errors
/// INVALID_ARGUMENT. Source: spire-wire 1.3 (Filters).
pub fn filter(filter: Option<list_entries_request::Filter>, domain: &TrustDomain) -> Result<Filter, Status> {
    let Some(asked) = filter else { return Ok(Filter::default()) };
    let wrong = |e: chancery_core::ids::PlaceError| Status::invalid_argument(e.to_string());
    let mut filter = Filter::default();
    if let Some(id) = &asked.by_spiffe_id {
        let id = wire::spiffe_id(Some(id), "by_spiffe_id")?;
        chancery_core::ids::check_workload(&id, domain).map_err(wrong)?;
        filter.spiffe_id = Some(id);
    }
    if let Some(id) = &asked.by_parent_id {
        let id = wire::spiffe_id(Some(id), "by_parent_id")?;
        chancery_core::ids::check_member(&id, domain).map_err(wrong)?;
        filter.parent_id = Some(id);
    }
    if let Some(by) = &asked.by_selectors {
        if by.selectors.is_empty() {
            return Err(Status::invalid_argument("by_selectors: the list is empty"));
        }
        filter.selectors = Some((selectors(&by.selectors)?, how(by.r#match, "by_selectors")?));
    }
    if let Some(by) = &asked.by_federates_with {
        if by.trust_domains.is_empty() {
            return Err(Status::invalid_argument("by_federates_with: the list is empty"));
        }
        let set = domains(&by.trust_domains)?.into_iter().collect();
        filter.federates_with = Some((set, how(by.r#match, "by_federates_with")?));
    }
    filter.hint = asked.by_hint.filter(|hint| !hint.is_empty());
    filter.downstream_only = asked.by_downstream == Some(true);
    Ok(filter)
}

/// Both enums have the same numbers.
fn how(number: i32, field: &str) -> Result<Match, Status> {
    match types::selector_match::MatchBehavior::try_from(number) {
        Ok(types::selector_match::MatchBehavior::MatchExact) => Ok(Match::Exact),
        Ok(types::selector_match::MatchBehavior::MatchSubset) => Ok(Match::Subset),
        Ok(types::selector_match::MatchBehavior::MatchSuperset) => Ok(Match::Superset),
        Ok(types::selector_match::MatchBehavior::MatchAny) => Ok(Match::Any),
        Err(_) => Err(Status::invalid_argument(format!("{field}: unknown match behavior {number}"))),
    }
}
