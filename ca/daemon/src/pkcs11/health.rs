//! How a token does: what readiness, metrics and operators are told.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How a token does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// In a word.
    pub state: State,
    /// In a sentence; empty when all is well.
    pub detail: String,
}

/// How a token does, in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The PIN was refused; it is not tried again.
    AuthFailed,
    /// It works, but a key of ours is gone or signs wrongly.
    Degraded,
    /// It is away and looked for.
    Down,
    /// Calls do not come back from the module.
    Hung,
    /// It works.
    Up,
}

impl State {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthFailed => "auth_failed",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Hung => "hung",
            Self::Up => "up",
        }
    }
}

/// What the threads of a token find, kept for whoever asks.
pub(super) struct Status {
    // Guards the findings; held to read or write them.
    found: Mutex<Findings>,
}

pub(super) struct Findings {
    /// Why the PIN is not tried again.
    pub auth: Option<String>,
    /// Why the token is away.
    pub down: Option<String>,
    /// Since when threads hang, and how many do.
    pub hung: Option<(Instant, usize)>,
    /// Labels of keys that do not sign as they should.
    pub bad_keys: BTreeSet<String>,
    /// When a call last came back well.
    pub last_success: Instant,
}

impl Status {
    pub(super) fn new() -> Self {
        let found =
            Findings { auth: None, down: None, hung: None, bad_keys: BTreeSet::new(), last_success: Instant::now() };
        Self { found: Mutex::new(found) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Findings> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> Health {
        let found = self.lock();
        let (state, detail) = if let Some(why) = &found.auth {
            (State::AuthFailed, why.clone())
        } else if let Some((since, count)) = &found.hung {
            (State::Hung, format!("{count} calls have hung for up to {} s", since.elapsed().as_secs()))
        } else if let Some(why) = &found.down {
            (State::Down, why.clone())
        } else if found.bad_keys.is_empty() {
            (State::Up, String::new())
        } else {
            let labels: Vec<_> = found.bad_keys.iter().cloned().collect();
            (State::Degraded, format!("keys that do not sign: {}", labels.join(", ")))
        };
        Health { state, detail }
    }

    pub(super) fn succeeded(&self) {
        let mut found = self.lock();
        found.last_success = Instant::now();
        if found.down.take().is_some() {
            tracing::info!("token is back");
        }
    }

    /// Why the token is away, if it is.
    pub(super) fn away(&self) -> Option<String> {
        self.lock().down.clone()
    }

    pub(super) fn went_down(&self, why: String) {
        let mut found = self.lock();
        if found.down.is_none() {
            tracing::error!(why, "token is away");
        }
        found.down = Some(why);
    }

    /// Time since a call last came back well.
    pub(super) fn silence(&self) -> Duration {
        self.lock().last_success.elapsed()
    }
}
