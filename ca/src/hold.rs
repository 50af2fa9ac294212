//! Holds: an instance gets nothing new for at most 15 minutes, and its peers refuse it meanwhile.
//!
//! Less than the kill switch (`revoke.rs`): it ends by itself and can be taken back, so a detector may place one, within caps
//! that the committing transaction checks (docs/REVOCATION.md).

use chancery_sdk::{id::SpiffeId, time::UnixTime};

pub use crate::store::{Hold, Placed};
pub use chancery_core::instance::{Cap, HoldSpan};

use crate::{
    problem::Problem,
    revoke::{MAX_PAGE, Order, check_reason},
    state::State,
    store::{Fact, HoldInstance, Refusal, ReleaseHold},
};

/// What became of a detector's hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Detected {
    /// Nothing: detectors have held what they may.
    Capped(Cap),
    /// The instance is held until then.
    Held(UnixTime),
}

/// Holds an instance by an operator's word; holding again replaces the end. Answers the end.
///
/// # Errors
/// [`Problem::Invalid`] without a reason, [`Problem::NotFound`], [`Problem::Precondition`] where it does not run.
pub async fn place(state: &State, id: SpiffeId, span: HoldSpan, order: Order) -> Result<UnixTime, Problem> {
    let Order { reason, caller } = order;
    let fact = HoldInstance { id, span, placed: Placed::Operator { caller }, reason };
    match hold(state, fact).await? {
        Detected::Held(until) => Ok(until),
        // Operators have no caps; whoever adds one finds this.
        Detected::Capped(cap) => Err(Refusal::HoldCapped(cap).into()),
    }
}

/// Holds an instance by a detector's word, within the caps.
///
/// # Errors
/// As [`place`].
pub async fn detect(
    state: &State,
    id: SpiffeId,
    span: HoldSpan,
    detector: &'static str,
    reason: String,
) -> Result<Detected, Problem> {
    hold(state, HoldInstance { id, span, placed: Placed::Detector { name: detector }, reason }).await
}

async fn hold(state: &State, fact: HoldInstance) -> Result<Detected, Problem> {
    check_reason(&fact.reason)?;
    let (id, span, placed) = (fact.id.clone(), fact.span, fact.placed.clone());
    match state.commit(Fact::HoldInstance(fact)).await?.done() {
        Ok(_) => {}
        Err(Refusal::HoldCapped(cap)) => return Ok(Detected::Capped(cap)),
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
    match placed {
        Placed::Detector { name } => tracing::warn!(instance = %id, %until, detector = name, "held by a detector"),
        Placed::Operator { .. } => tracing::warn!(instance = %id, %until, "held by an operator"),
    }
    Ok(Detected::Held(until))
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
