//! Holds: an instance gets nothing new for at most 15 minutes, and its peers refuse it meanwhile.
//!
//! Less than the kill switch (`revoke.rs`): it ends by itself and can be taken back, so a detector's proposal may place one too,
//! within caps that the committing transaction checks (docs/REVOCATION.md).

use chancery_sdk::{id::SpiffeId, time::UnixTime};

pub use crate::store::Hold;
pub use chancery_core::instance::HoldSpan;

use crate::{
    problem::Problem,
    revoke::{MAX_PAGE, Order, check_reason},
    state::State,
    store::{Fact, HoldInstance, Placed, Refusal, ReleaseHold},
};

/// Holds an instance by an operator's word; holding again replaces the end. Answers the end.
///
/// # Errors
/// [`Problem::Invalid`] without a reason, [`Problem::NotFound`], [`Problem::Precondition`] where it does not run.
pub async fn place(state: &State, id: SpiffeId, span: HoldSpan, order: Order) -> Result<UnixTime, Problem> {
    check_reason(&order.reason)?;
    let Order { reason, caller } = order;
    let fact = HoldInstance { id: id.clone(), span, placed: Placed::Operator { caller }, reason };
    match state.commit(Fact::HoldInstance(fact)).await?.done() {
        Ok(_) => {}
        Err(Refusal::NotFound) => return Err(Problem::NotFound(format!("no instance {id}"))),
        Err(Refusal::InstanceNotGood) => {
            let text = format!("instance {id} does not run: revoke it where somebody may have its key");
            return Err(Problem::Precondition(text));
        }
        Err(refusal) => return Err(refusal.into()),
    }
    // Where it was released meanwhile: what it was.
    let stored = state.store.instance(&id).await?.and_then(|instance| instance.held_until);
    let until = stored.unwrap_or_else(|| span.until(state.now()));
    tracing::warn!(instance = %id, %until, "held by an operator");
    Ok(until)
}

/// Ends a hold before its time, whoever placed it.
///
/// # Errors
/// [`Problem::Invalid`] without a reason, [`Problem::NotFound`] where none is in force.
pub async fn release(state: &State, id: SpiffeId, order: Order) -> Result<(), Problem> {
    check_reason(&order.reason)?;
    match state.commit(Fact::ReleaseHold(ReleaseHold { id: id.clone(), order })).await?.done() {
        Ok(_) => {
            tracing::warn!(instance = %id, "released by an operator");
            Ok(())
        }
        Err(Refusal::NotFound) => {
            Err(Problem::NotFound(format!("instance {id} is not held; `hold list` shows what is")))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Holds in force, after the instance of this ID.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State, after: &str, limit: u32) -> Result<Vec<Hold>, Problem> {
    Ok(state.store.holds(state.now(), after, limit.clamp(1, MAX_PAGE)).await?)
}
