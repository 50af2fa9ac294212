//! When an authority is made, begins to sign, stops, and leaves the bundle. Pure; time is an argument.
//!
//! With a life of L: prepared at L/2 of the active one, active from 5/6 on, and only once it has been
//! published for the publish delay, so that every consumer that polls has it before it signs. The old one
//! stays published until nothing it signed can be valid any more.

use chancery_sdk::time::UnixTime;

use crate::store::{Authority, AuthorityState};

/// How far notBefore lies back, for clocks that are behind.
pub(super) const BACKDATE_SECS: i64 = 10;
/// How long an ended authority stays published, for clocks that are behind.
pub(super) const GRACE_SECS: i64 = 60;

/// Authorities of one kind that a server may publish; the store refuses more.
const MAX_PUBLISHED: usize = 3;

/// One step of a rotation; after each the authorities are read again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Begins to sign.
    Activate(String),
    /// A new key and authority, published and not signing yet.
    Prepare,
    /// Leaves the bundle.
    Remove(String),
    /// Stops signing, stays published.
    Retire(String),
}

/// The next step for this server's authorities of one kind; `None` when nothing is due.
///
/// `usable` says whether the key is in the key store; `delay` is the publish delay in seconds.
pub(super) fn next(own: &[Authority], usable: &dyn Fn(&str) -> bool, now: UnixTime, delay: i64) -> Option<Step> {
    let able = |a: &&Authority| now < a.not_after && usable(&a.id);
    let newest = |state: AuthorityState| {
        own.iter().filter(|a| a.state == state).filter(able).max_by_key(|a| (a.not_before, a.id.clone()))
    };
    let Some(active) = newest(AuthorityState::Active) else {
        let prepared = newest(AuthorityState::Prepared).map(|a| Step::Activate(a.id.clone()));
        return prepared.or_else(|| make_room(own)).or(Some(Step::Prepare));
    };
    retire(own, active)
        .or_else(|| replace(active, newest(AuthorityState::Prepared), now, delay))
        .or_else(|| remove(own, now))
}

/// Keys were lost more often than may be published: the oldest goes, and what it signed with it.
fn make_room(own: &[Authority]) -> Option<Step> {
    if own.len() < MAX_PUBLISHED {
        return None;
    }
    let oldest = |keep: fn(AuthorityState) -> bool| {
        own.iter().filter(|a| keep(a.state)).min_by_key(|a| a.not_before).map(|a| a.id.clone())
    };
    let silent = oldest(|state| state != AuthorityState::Active).map(Step::Remove);
    silent.or_else(|| oldest(|state| state == AuthorityState::Active).map(Step::Retire))
}

/// Whatever else is active has been replaced, has ended or has lost its key.
fn retire(own: &[Authority], active: &Authority) -> Option<Step> {
    own.iter().find(|a| a.state == AuthorityState::Active && a.id != active.id).map(|a| Step::Retire(a.id.clone()))
}

fn replace(active: &Authority, prepared: Option<&Authority>, now: UnixTime, delay: i64) -> Option<Step> {
    let life = active.not_after.since(active.not_before);
    let age = now.since(active.not_before);
    let Some(prepared) = prepared else { return (age >= life / 2).then_some(Step::Prepare) };
    let published_for = now.since(prepared.not_before.plus(BACKDATE_SECS));
    (age >= life - life / 6 && published_for >= delay).then(|| Step::Activate(prepared.id.clone()))
}

fn remove(own: &[Authority], now: UnixTime) -> Option<Step> {
    own.iter()
        .filter(|a| a.state != AuthorityState::Active && now >= a.not_after.plus(grace(a)))
        .min_by_key(|a| a.not_after)
        .map(|a| Step::Remove(a.id.clone()))
}

/// A tenth of a short life, so that at most three are published.
fn grace(authority: &Authority) -> i64 {
    GRACE_SECS.min(authority.not_after.since(authority.not_before) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AuthorityKind;

    const LIFE: i64 = 600;

    fn authority(id: &str, state: AuthorityState, from: i64) -> Authority {
        Authority {
            id: id.into(),
            kind: AuthorityKind::X509,
            server: "s".into(),
            state,
            public: Vec::new(),
            not_before: UnixTime(from),
            not_after: UnixTime(from + LIFE),
        }
    }

    fn at(own: &[Authority], now: i64) -> Option<Step> {
        next(own, &|id| id != "lost", UnixTime(now), 30)
    }

    #[test]
    fn a_first_start_prepares_and_activates_at_once() {
        assert_eq!(at(&[], 0), Some(Step::Prepare));
        assert_eq!(at(&[authority("a", AuthorityState::Prepared, 0)], 1), Some(Step::Activate("a".into())));
    }

    #[test]
    fn an_active_authority_whose_key_is_here_is_kept() {
        assert_eq!(at(&[authority("a", AuthorityState::Active, 0)], 10), None);
    }

    #[test]
    fn a_lost_key_or_an_ended_life_means_a_new_authority_now() {
        assert_eq!(at(&[authority("lost", AuthorityState::Active, 0)], 10), Some(Step::Prepare));
        assert_eq!(at(&[authority("a", AuthorityState::Active, 0)], LIFE), Some(Step::Prepare));
    }

    #[test]
    fn a_server_that_loses_its_keys_again_and_again_makes_room() {
        let lost = |from, state| Authority { id: "lost".into(), ..authority("lost", state, from) };
        let three = [0, 1, 2].map(|from| lost(from, AuthorityState::Active));
        assert_eq!(at(&three, 10), Some(Step::Retire("lost".into())));
        let old = [lost(0, AuthorityState::Old), lost(1, AuthorityState::Active), lost(2, AuthorityState::Active)];
        assert_eq!(at(&old, 10), Some(Step::Remove("lost".into())));
        assert_eq!(at(&old[1..], 10), Some(Step::Prepare));
    }

    #[test]
    fn the_next_is_prepared_at_half_of_life_and_activated_at_five_sixths() {
        let active = authority("a", AuthorityState::Active, 0);
        assert_eq!(at(std::slice::from_ref(&active), 299), None);
        assert_eq!(at(std::slice::from_ref(&active), 300), Some(Step::Prepare));
        let both = [active, authority("b", AuthorityState::Prepared, 290)];
        assert_eq!(at(&both, 499), None);
        assert_eq!(at(&both, 500), Some(Step::Activate("b".into())));
    }

    #[test]
    fn nothing_signs_before_it_was_published_for_the_delay() {
        let late = [authority("a", AuthorityState::Active, 0), authority("b", AuthorityState::Prepared, 485)];
        assert_eq!(at(&late, 524), None);
        assert_eq!(at(&late, 525), Some(Step::Activate("b".into())));
    }

    #[test]
    fn the_old_one_is_retired_then_stays_until_its_end_and_the_grace() {
        let two = [authority("a", AuthorityState::Active, 0), authority("b", AuthorityState::Active, 290)];
        assert_eq!(at(&two, 500), Some(Step::Retire("a".into())));
        let old = [authority("a", AuthorityState::Old, 0), authority("b", AuthorityState::Active, 400)];
        assert_eq!(at(&old, LIFE + GRACE_SECS - 1), None);
        assert_eq!(at(&old, LIFE + GRACE_SECS), Some(Step::Remove("a".into())));
    }
}
