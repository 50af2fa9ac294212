//! Proposals of detectors, as operators list and review them.

use chancery_core::detect::Verdict;
use chancery_sdk::time::UnixTime;

pub use crate::store::{Proposal, Review};

use crate::{
    problem::Problem,
    revoke::{MAX_PAGE, Order, check_reason},
    state::State,
    store::{Fact, Refusal, ReviewProposal},
};

/// Names a proposal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Which {
    /// `None` = the newest epoch that has one of this number.
    pub epoch: Option<i64>,
    /// Number of its event.
    pub number: i64,
}

/// A page of proposals, after the one of this epoch and number.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State, after: (i64, i64), open: bool, limit: u32) -> Result<Vec<Proposal>, Problem> {
    Ok(state.store.proposals(after, open, limit.clamp(1, MAX_PAGE)).await?)
}

/// Closes a proposal by an operator's word. It takes nothing back: a hold is released, an instance revoked, by its own command.
///
/// # Errors
/// [`Problem::Invalid`] without a reason or with a beginning in the future, [`Problem::NotFound`],
/// [`Problem::Precondition`] where it was reviewed before.
pub async fn review(
    state: &State,
    which: Which,
    verdict: Verdict,
    began: Option<UnixTime>,
    order: Order,
) -> Result<(), Problem> {
    check_reason(&order.reason)?;
    if began.is_some_and(|began| began.0 <= 0 || began > state.now()) {
        return Err(Problem::Invalid("began: say when in the past it began".into()));
    }
    let Which { epoch, number } = which;
    let fact = ReviewProposal { epoch, number, verdict, began, order };
    match state.commit(Fact::ReviewProposal(fact)).await?.done() {
        Ok(_) => Ok(()),
        Err(Refusal::NotFound) => {
            Err(Problem::NotFound(format!("no proposal {number}; `proposal list --open` shows what is open")))
        }
        Err(Refusal::Stale) => Err(Problem::Precondition(format!("proposal {number} was reviewed before"))),
        Err(refusal) => Err(refusal.into()),
    }
}
