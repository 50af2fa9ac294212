//! What happens by itself: hung threads are counted and replaced, an absent token is looked for, keys are tried.
//!
//! The watchdog never calls the module; the keeper does, through the queue like everybody else.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{
    error::TokenError,
    generate::PROBE,
    key::KeyFacts,
    token::{Handle, Inner, sign_once},
};
use crate::jitter::jittered;

/// Between two looks at the threads, as a part of the deadline.
const LOOKS: u32 = 20;
/// Between two looks at a token that works.
const CALM: Duration = Duration::from_secs(5);
/// How soon an absence that a call found is acted on.
const NOTICE: Duration = Duration::from_millis(200);
/// Between two signatures of each key in use.
const KEYS: Duration = Duration::from_secs(60);
/// First and longest rest between two tries to reach a token that is away.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A call is hung when the module has had it for this many deadlines; the process gives up when nothing has come back
/// well for so many.
pub(super) const HUNG_DEADLINES: u32 = 2;
pub(super) const GIVE_UP_DEADLINES: u32 = 12;

/// Ends the keeper and the watchdog when the token is closed.
#[derive(Default)]
pub(super) struct Bell {
    // Guards whether it has rung.
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ring.notify_all();
    }

    /// Waits; whether it is time to end.
    fn wait(&self, rest: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        *self.ring.wait_timeout_while(rung, rest, |rung| !*rung).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Starts both threads. They hold the token weakly.
pub(super) fn start(inner: &Arc<Inner>) -> std::io::Result<()> {
    let (bell, watched, kept) = (Arc::clone(&inner.bell), Arc::downgrade(inner), Arc::downgrade(inner));
    let own = Arc::clone(&bell);
    let (watching, keeping) = (inner.workers.ends.living(), inner.workers.ends.living());
    let look = (inner.deadline / LOOKS).max(Duration::from_millis(10));
    thread::Builder::new().name("p11-watch".into()).spawn(move || {
        let _living = watching;
        while !own.wait(look) {
            let Some(inner) = Weak::upgrade(&watched) else { return };
            watch(&inner);
        }
    })?;
    thread::Builder::new().name("p11-keep".into()).spawn(move || {
        keep(&bell, &kept);
        drop(keeping);
    })?;
    Ok(())
}

/// Counts hung threads, replaces them up to as many again, and gives up when none is left that could answer.
fn watch(inner: &Arc<Inner>) {
    let (threads, hung) = inner.workers.count();
    let since = {
        let mut found = inner.workers.place.status.lock();
        let before = found.hung.take();
        if hung > 0 {
            found.hung = Some((before.map_or_else(Instant::now, |(since, _)| since), hung));
            if before.is_none_or(|(_, count)| count < hung) {
                tracing::error!(hung, threads, "calls do not come back from the module");
            }
        }
        found.hung.map(|(since, _)| since)
    };
    let Some(since) = since else { return };
    let most = 2 * inner.workers.wanted;
    for _ in threads..most.min(inner.workers.wanted + hung) {
        if let Err(problem) = inner.workers.spawn() {
            tracing::error!(%problem, "no thread in place of a hung one");
        }
    }
    let patience = inner.deadline * GIVE_UP_DEADLINES;
    let silent = since.elapsed() >= patience && inner.workers.place.status.silence() >= patience;
    if silent || (threads >= most && hung >= threads) {
        tracing::error!(hung, threads, "the module hangs and cannot be recovered in this process; giving up");
        (inner.hooks.give_up)();
    }
}

/// Looks for an absent token with growing rests; tries the token and its keys now and then.
fn keep(bell: &Bell, inner: &Weak<Inner>) {
    let mut rest = FIRST_REST;
    let mut keys_tried = Instant::now();
    loop {
        if rested(bell, inner, rest) {
            return;
        }
        let Some(inner) = Weak::upgrade(inner) else { return };
        match inner.reach() {
            Ok(()) if keys_tried.elapsed() >= KEYS => {
                keys_tried = Instant::now();
                try_keys(&inner);
                rest = FIRST_REST;
            }
            Ok(()) => rest = FIRST_REST,
            Err(problem) => {
                rest = jittered((rest * 2).min(LONGEST_REST));
                tracing::warn!(%problem, "token does not answer; next try in {} ms", rest.as_millis());
            }
        }
    }
}

/// Rests: while the token is away for `rest`, else until a call finds it away, at most [`CALM`]. Whether to end.
fn rested(bell: &Bell, inner: &Weak<Inner>, rest: Duration) -> bool {
    let away = || Weak::upgrade(inner).is_some_and(|inner| inner.workers.place.status.away().is_some());
    if away() {
        return bell.wait(rest);
    }
    let began = Instant::now();
    while began.elapsed() < CALM {
        if bell.wait(NOTICE) {
            return true;
        }
        if away() {
            return bell.wait(rest);
        }
    }
    false
}

/// A key may be deleted by another process at any time: each one in use signs, and what it signs is verified.
fn try_keys(inner: &Arc<Inner>) {
    for facts in inner.keys_in_use() {
        let answer = sign_once(inner, &facts, PROBE, Handle::Known);
        note(inner, &facts, &answer);
        if let Err(problem) = answer {
            tracing::error!(%problem, label = facts.label, "a key in use does not sign");
        }
    }
    // A key that nobody holds any more is nobody's trouble.
    let held: Vec<_> = inner.keys_in_use();
    inner.workers.place.status.lock().bad_keys.retain(|label| held.iter().any(|facts| facts.label == *label));
}

/// Keeps the list of keys that do not sign. A token that is away has lost none.
pub(super) fn note(inner: &Inner, facts: &KeyFacts, answer: &Result<Vec<u8>, TokenError>) {
    let mut found = inner.workers.place.status.lock();
    match answer {
        Ok(_) => {
            found.bad_keys.remove(&facts.label);
        }
        Err(TokenError::Ambiguous { .. } | TokenError::BadSignature(_) | TokenError::KeyMissing(_)) => {
            found.bad_keys.insert(facts.label.clone());
        }
        Err(_) => {}
    }
}
