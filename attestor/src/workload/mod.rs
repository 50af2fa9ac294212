//! What a calling process is: selectors from workload attestors, an open set behind one trait.
//!
//! Facts are the kernel's (or an orchestrator's) about the process that connected, never what it says, and
//! never about whoever shares its socket: the boundary is the uid, unit or container. Called by `api`
//! once for every answer that carries a key.

mod digest;
mod names;
mod places;
mod unix;

pub use unix::Unix;

use std::{sync::Arc, time::Duration};

use chancery_core::selector::Selectors;
use futures_util::future::{BoxFuture, join_all};
use thiserror::Error;

use crate::peer::Caller;

/// Longest time all workload attestors have together: a first digest of a large program on a slow disk fits.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a process is not known.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AttestError {
    /// It became another program or user while it was looked at; asking again helps an honest one.
    #[error("process {pid} changed while it was looked at")]
    Changed {
        /// Its number.
        pid: i32,
    },
    /// It ended.
    #[error("process {pid} has ended")]
    Ended {
        /// Its number.
        pid: i32,
    },
    /// It is not the user any more that connected: a program with set-uid, or dropped rights.
    #[error("process {pid} connected as uid {connected} and is uid {now}, or changed its gid")]
    Identity {
        /// Its number.
        pid: i32,
        /// Effective uid at connect.
        connected: u32,
        /// Effective uid now.
        now: u32,
    },
    /// The attestor cannot look.
    #[error("workload attestor '{attestor}': {problem}")]
    Unavailable {
        /// Its name.
        attestor: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A way to describe a calling process.
pub trait WorkloadAttestor: Send + Sync {
    /// The type of its selectors.
    fn name(&self) -> &'static str;

    /// Everything it can prove of the caller; empty where the process is none of its business.
    fn attest<'a>(&'a self, caller: &'a Arc<Caller>) -> BoxFuture<'a, Result<Selectors, AttestError>>;
}

/// All configured workload attestors.
pub struct Attestors {
    list: Vec<Box<dyn WorkloadAttestor>>,
    deadline: Duration,
}

impl Attestors {
    /// Asks `list`, giving all of them `deadline` together.
    pub fn new(list: Vec<Box<dyn WorkloadAttestor>>, deadline: Duration) -> Self {
        Self { list, deadline }
    }

    /// The union of what they prove, of a process that still lives.
    ///
    /// One that cannot look is tolerated while another can (spire-wire 1.9); one that saw the process change is not.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn attest(&self, caller: &Arc<Caller>) -> Result<Selectors, AttestError> {
        let asked = self.list.iter().map(|attestor| async move {
            let late = |_| AttestError::Unavailable {
                attestor: attestor.name(),
                problem: format!("no answer within {:?}", self.deadline),
            };
            tokio::time::timeout(self.deadline, attestor.attest(caller)).await.unwrap_or_else(|e| Err(late(e)))
        });
        let selectors = merge(join_all(asked).await)?;
        if !caller.process.alive() {
            return Err(AttestError::Ended { pid: caller.process.pid() });
        }
        Ok(selectors)
    }
}

fn merge(answers: Vec<Result<Selectors, AttestError>>) -> Result<Selectors, AttestError> {
    let (mut all, mut answered, mut first_failure) = (Selectors::new(), false, None);
    for answer in answers {
        match answer {
            Ok(selectors) => {
                answered = true;
                all.extend(selectors);
            }
            Err(failure @ AttestError::Unavailable { .. }) => {
                tracing::warn!(%failure, "workload attestor failed");
                first_failure.get_or_insert(failure);
            }
            Err(contradiction) => return Err(contradiction),
        }
    }
    match first_failure {
        Some(failure) if !answered => Err(failure),
        _ => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Selectors, AttestError> {
        Ok([text.parse().unwrap()].into())
    }

    fn away() -> Result<Selectors, AttestError> {
        Err(AttestError::Unavailable { attestor: "x", problem: "away".into() })
    }

    #[test]
    fn one_attestor_that_cannot_look_is_tolerated_while_another_can() {
        assert_eq!(merge(vec![away(), found("unix:uid:1")]).unwrap().len(), 1);
        assert_eq!(merge(vec![away(), away()]), away());
        assert_eq!(merge(vec![]), Ok(Selectors::new()));
    }

    #[test]
    fn process_that_changed_is_refused_whatever_the_others_found() {
        let changed = AttestError::Changed { pid: 5 };
        assert_eq!(merge(vec![found("unix:uid:1"), Err(changed.clone())]), Err(changed));
    }
}
