//! Filters of agent listings. Source: spire-wire 1.1, 4.4.

use chancery_core::{
    entry::Match,
    selector::{Selector, Selectors},
};
use chancery_proto::spire::api::{
    server::agent::v1::{count_agents_request, list_agents_request::Filter},
    types::{SelectorMatch, selector_match::MatchBehavior},
};
use chancery_sdk::time::UnixTime;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tonic::Status;

use crate::agents;

/// SPIRE's layout `2006-01-02 15:04:05 -0700 -07`.
const BEFORE: &[BorrowedFormatItem<'_>] = format_description!(
    "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute] [ignore count:3]"
);

/// A count's filter, which is a listing's under another name.
pub(super) fn of_count(filter: count_agents_request::Filter) -> Filter {
    Filter {
        by_attestation_type: filter.by_attestation_type,
        by_selector_match: filter.by_selector_match,
        by_banned: filter.by_banned,
        by_can_reattest: filter.by_can_reattest,
        by_expires_before: filter.by_expires_before,
    }
}

/// Reads a filter. A time that does not parse is no filter, as in SPIRE.
///
/// # Errors
/// INVALID_ARGUMENT for a bad selector, or none where a match is asked for.
pub(super) fn read(filter: Filter) -> Result<agents::Filter, Status> {
    let kind = filter.by_attestation_type;
    Ok(agents::Filter {
        attestation_type: (!kind.is_empty()).then_some(kind),
        selectors: filter.by_selector_match.map(selectors).transpose()?,
        banned: filter.by_banned,
        can_reattest: filter.by_can_reattest,
        expires_before: OffsetDateTime::parse(&filter.by_expires_before, &BEFORE)
            .ok()
            .map(|at| UnixTime(at.unix_timestamp())),
    })
}

fn selectors(wanted: SelectorMatch) -> Result<(Selectors, Match), Status> {
    let read = |s: &chancery_proto::spire::api::types::Selector| {
        Selector::new(&s.r#type, &s.value).map_err(|e| Status::invalid_argument(format!("selector: {e}")))
    };
    let set: Selectors = wanted.selectors.iter().map(read).collect::<Result<_, _>>()?;
    if set.is_empty() {
        return Err(Status::invalid_argument("selector match without selectors"));
    }
    let how = match MatchBehavior::try_from(wanted.r#match) {
        Ok(MatchBehavior::MatchExact) => Match::Exact,
        Ok(MatchBehavior::MatchSubset) => Match::Subset,
        Ok(MatchBehavior::MatchSuperset) => Match::Superset,
        Ok(MatchBehavior::MatchAny) => Match::Any,
        Err(_) => return Err(Status::invalid_argument(format!("unknown match {}", wanted.r#match))),
    };
    Ok((set, how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_spires_layout_and_anything_else_is_no_filter() {
        let before = |text: &str| {
            let filter = Filter { by_expires_before: text.into(), ..Default::default() };
            read(filter).unwrap().expires_before
        };
        assert_eq!(before("2026-01-31 10:00:00 +0000 +00"), Some(UnixTime(1_769_853_600)));
        assert_eq!(before("2026-01-31"), None);
        assert_eq!(before(""), None);
    }
}
