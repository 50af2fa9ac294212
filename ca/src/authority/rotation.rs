//! When an authority is made, begins to sign, stops, and leaves the bundle. Pure; time is an argument.
//!
//! With a life of L: prepared at L/2 of the active one, active from 5/6 on, and only once it has been
//! published for the publish delay, so that every consumer that polls has it before it signs. The old one
//! stays published until nothing it signed can be valid any more.

use chancery_sdk::time::UnixTime;

use crate::store::{Authority, AuthorityState, KeyRecord, KeyState};

/// How far notBefore lies back, for clocks that are behind.
pub(super) const BACKDATE_SECS: i64 = 10;
/// How long an ended authority stays published, for clocks that are behind.
pub(super) const GRACE_SECS: i64 = 60;

/// Authorities of one kind that a server may publish; the store refuses more.
const MAX_PUBLISHED: usize = 3;

/// A key of this server, the authority it is of, and whether the key store has shown that it signs.
#[derive(Clone, Debug)]
pub(super) struct OwnKey {
    /// Its row in the journal.
    pub key: KeyRecord,
    /// Published; `None` before and after.
    pub authority: Option<Authority>,
    /// Found in the key store, with the recorded public half, and signing.
    pub usable: bool,
}

/// One step of a rotation; after each the authorities are read again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Begins to sign; the one before stops.
    Activate(String),
    /// The planned key is made, by label.
    Generate(String),
    /// A new key is written down.
    Plan,
    /// The key, by label, becomes an authority: published and not signing yet.
    Prepare(String),
    /// Leaves the bundle; its key is condemned.
    Remove(String),
    /// Stops signing, stays published.
    Retire(String),
}

/// The next step for this server's keys of one kind; `None` when nothing is due. `delay` is the publish delay in seconds.
pub(super) fn next(own: &[OwnKey], now: UnixTime, delay: i64) -> Option<Step> {
    let prepared = newest(own, AuthorityState::Prepared, now);
    let Some(active) = newest(own, AuthorityState::Active, now) else {
        let prepared = prepared.map(|a| Step::Activate(a.id.clone()));
        return prepared.or_else(|| make_room(own)).or_else(|| Some(successor(own)));
    };
    retire(own, active)
        .or_else(|| discard(own))
        .or_else(|| match prepared {
            None => follow(own, active, now),
            Some(prepared) => take_over(active, prepared, now, delay),
        })
        .or_else(|| remove(own, now))
}

/// As [`next`] where people bring the authorities: whatever there is takes its turn, and none is made.
pub(super) fn next_brought(own: &[OwnKey], now: UnixTime, delay: i64) -> Option<Step> {
    let prepared = newest(own, AuthorityState::Prepared, now);
    let turn = match (newest(own, AuthorityState::Active, now), prepared) {
        (Some(active), prepared) => retire(own, active)
            .or_else(|| discard(own))
            .or_else(|| prepared.and_then(|prepared| take_over(active, prepared, now, delay))),
        (None, Some(prepared)) => Some(Step::Activate(prepared.id.clone())),
        (None, None) => discard(own),
    };
    turn.or_else(|| remove(own, now))
}

/// The newest authority in a state that can sign: its key is here, it has not ended, and nobody mistrusts it.
pub(super) fn newest(own: &[OwnKey], state: AuthorityState, now: UnixTime) -> Option<&Authority> {
    let able = own.iter().filter(|k| k.usable).filter_map(|k| k.authority.as_ref());
    let able = able.filter(|a| a.state == state && now < a.not_after && a.tainted_at.is_none());
    able.max_by_key(|a| (a.not_before, a.published_at, a.id.clone()))
}

/// What brings the next authority: whatever an earlier try left is used first, so that no key is made twice.
pub(super) fn successor(own: &[OwnKey]) -> Step {
    let unused = |state: KeyState| own.iter().filter(move |k| k.authority.is_none() && k.key.state == state);
    let made = unused(KeyState::Generated).find(|k| k.usable).map(|k| Step::Prepare(k.key.label.clone()));
    let planned = unused(KeyState::Planned).next().map(|k| Step::Generate(k.key.label.clone()));
    made.or(planned).unwrap_or(Step::Plan)
}

fn published(own: &[OwnKey]) -> impl Iterator<Item = &Authority> {
    own.iter().filter_map(|k| k.authority.as_ref())
}

/// Keys were lost more often than may be published: the oldest goes, and what it signed with it.
pub(super) fn make_room(own: &[OwnKey]) -> Option<Step> {
    if published(own).count() < MAX_PUBLISHED {
        return None;
    }
    let oldest = |keep: fn(AuthorityState) -> bool| {
        published(own).filter(|a| keep(a.state)).min_by_key(|a| a.not_before).map(|a| a.id.clone())
    };
    let silent = oldest(|state| state != AuthorityState::Active).map(Step::Remove);
    silent.or_else(|| oldest(|state| state == AuthorityState::Active).map(Step::Retire))
}

/// Whatever else is active has been replaced, has ended, was tainted or has lost its key.
fn retire(own: &[OwnKey], active: &Authority) -> Option<Step> {
    published(own).find(|a| a.state == AuthorityState::Active && a.id != active.id).map(|a| Step::Retire(a.id.clone()))
}

/// What is prepared and can never sign: its key is lost, or it was tainted.
fn discard(own: &[OwnKey]) -> Option<Step> {
    let hopeless = |k: &&OwnKey| {
        let tainted = k.authority.as_ref().is_some_and(|a| a.tainted_at.is_some());
        k.key.state == KeyState::Lost || tainted
    };
    let mut prepared = own.iter().filter(hopeless).filter_map(|k| k.authority.as_ref());
    prepared.find(|a| a.state == AuthorityState::Prepared).map(|a| Step::Remove(a.id.clone()))
}

/// At half of the active one's life the next is made.
fn follow(own: &[OwnKey], active: &Authority, now: UnixTime) -> Option<Step> {
    let full = published(own).count() >= MAX_PUBLISHED;
    let (life, age) = (active.not_after.since(active.not_before), now.since(active.not_before));
    match (age >= life / 2, full, is_late(active, now)) {
        (true, false, _) => Some(successor(own)),
        // Operators rotated faster than old ones end: room is made when it cannot wait any longer.
        (true, true, true) => make_room(own),
        (true, true, false) | (false, _, _) => None,
    }
}

/// The prepared one signs once the active one is late and consumers had time to take it up.
fn take_over(active: &Authority, prepared: &Authority, now: UnixTime, delay: i64) -> Option<Step> {
    let known = now.since(prepared.published_at) >= delay;
    (is_late(active, now) && known).then(|| Step::Activate(prepared.id.clone()))
}

fn is_late(active: &Authority, now: UnixTime) -> bool {
    let life = active.not_after.since(active.not_before);
    now.since(active.not_before) >= life - life / 6
}

fn remove(own: &[OwnKey], now: UnixTime) -> Option<Step> {
    published(own)
        .filter(|a| a.state != AuthorityState::Active && now >= a.not_after.plus(grace(a)))
        .min_by_key(|a| a.not_after)
        .map(|a| Step::Remove(a.id.clone()))
}

/// A tenth of a short life, so that at most three are published.
fn grace(authority: &Authority) -> i64 {
    GRACE_SECS.min(authority.not_after.since(authority.not_before) / 10)
}

#[cfg(test)]
mod tests;
