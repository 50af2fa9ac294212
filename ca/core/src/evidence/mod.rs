//! Evidence: what a node sends to prove itself, and the verdict on it.
//!
//! Verification is pure: recorded evidence is its test data.

pub mod exchange;
pub mod pkcs11;
pub mod tpm;

use std::fmt;

use thiserror::Error;

use crate::reason::Reason;

/// One check of an appraisal and its outcome, as the record keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Stable name, for example `quote.nonce`.
    pub name: &'static str,
    /// Whether the check passed. The last step of a denial has not; only the rules of a policy fail several at once.
    pub passed: bool,
    /// What was seen, for the operator; empty where there is nothing to add. Never a secret.
    pub detail: String,
}

/// Why one part of the evidence is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{detail}")]
pub struct Refused {
    /// The code.
    pub reason: Reason,
    /// What was seen, for the operator.
    pub detail: String,
}

fn refuse<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { reason, detail: detail.into() })
}

/// A refusal with everything the record needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denied {
    /// The code.
    pub reason: Reason,
    /// Fresh nonce, this connection's exporter and a valid signature of the node's own key: only then
    /// does the failure change the node's standing. Source: ARCHITECTURE, "Whose failure is it?".
    pub attributable: bool,
    /// Every check so far; the last one failed, and with it perhaps other rules of the same policy.
    pub steps: Vec<Step>,
    /// For the operator; the peer is told `denied` and nothing else.
    pub detail: String,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Denied {}

/// Longest detail of a failed step: some tell what hostile bytes said.
const MAX_DETAIL_CHARS: usize = 512;

/// Writes down the checks of one appraisal as they are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    steps: Vec<Step>,
    attributable: bool,
}

impl Checks {
    /// Goes on from checks made before.
    pub(crate) fn after(steps: Vec<Step>) -> Self {
        Self { steps, attributable: false }
    }

    /// From here on a failure is the node's own.
    pub(crate) fn attribute(&mut self) {
        self.attributable = true;
    }

    pub(crate) fn pass(&mut self, name: &'static str, detail: impl Into<String>) {
        self.steps.push(Step { name, passed: true, detail: detail.into() });
    }

    /// Ends the appraisal with a failed step.
    pub(crate) fn fail(&mut self, name: &'static str, reason: Reason, detail: impl Into<String>) -> Denied {
        let detail = self.failed(name, detail);
        Denied { reason, attributable: self.attributable, steps: std::mem::take(&mut self.steps), detail }
    }

    /// Ends the appraisal with the failed rules of one policy, at least one; the first gives the reason.
    pub(crate) fn fail_all(
        &mut self,
        first: (&'static str, Reason, String),
        more: impl IntoIterator<Item = (&'static str, Reason, String)>,
    ) -> Denied {
        let (name, reason, detail) = first;
        let detail = self.failed(name, detail);
        for (name, reason, detail) in more {
            self.failed(name, format!("{reason}: {detail}"));
        }
        Denied { reason, attributable: self.attributable, steps: std::mem::take(&mut self.steps), detail }
    }

    /// A failed step; its detail as it was kept.
    fn failed(&mut self, name: &'static str, detail: impl Into<String>) -> String {
        let detail: String = detail.into().chars().take(MAX_DETAIL_CHARS).collect();
        self.steps.push(Step { name, passed: false, detail: detail.clone() });
        detail
    }

    /// Records the check; `detail` says what is wrong where it does not hold.
    pub(crate) fn require(
        &mut self,
        name: &'static str,
        holds: bool,
        reason: Reason,
        detail: impl Into<String>,
    ) -> Result<(), Denied> {
        if !holds {
            return Err(self.fail(name, reason, detail));
        }
        self.pass(name, "");
        Ok(())
    }

    /// Records the check that made `result`; its value, or the denial `reason` gives for its error.
    pub(crate) fn take<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        result: Result<T, E>,
        reason: impl FnOnce(&E) -> Reason,
    ) -> Result<T, Denied> {
        match result {
            Ok(value) => {
                self.pass(name, "");
                Ok(value)
            }
            Err(error) => Err(self.fail(name, reason(&error), error.to_string())),
        }
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}
