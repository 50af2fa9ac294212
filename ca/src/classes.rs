//! Agent classes: what operators do with them.

use chancery_core::class::{self, Class, Draft};

use crate::{
    lifetimes,
    problem::Problem,
    state::State,
    store::{ClassRef, Fact, Outcome, Refusal},
};

/// How often an update is laid over a newer class before it gives up.
const UPDATE_TRIES: usize = 4;

/// Registers a class.
///
/// # Errors
/// [`Problem::Invalid`], [`Problem::AlreadyExists`].
pub async fn create(state: &State, draft: Draft) -> Result<Class, Problem> {
    let class = checked(state, draft).await?;
    let outcome = state.commit(Fact::CreateClass(class.clone())).await?;
    match outcome.done() {
        Ok(_) => Ok(class),
        Err(Refusal::AlreadyExists(_)) => {
            Err(Problem::AlreadyExists(format!("class '{}' exists; `class update` changes it", class.name)))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Replaces everything of a class but its name.
///
/// # Errors
/// [`Problem::Invalid`], [`Problem::NotFound`].
pub async fn update(state: &State, draft: Draft) -> Result<Class, Problem> {
    let wanted = checked(state, draft).await?;
    for _ in 0..UPDATE_TRIES {
        let current = get(state, wanted.name.as_str()).await?;
        let class =
            Class { revision: current.revision.saturating_add(1), created_at: current.created_at, ..wanted.clone() };
        let outcome = state.commit(Fact::UpdateClass(class.clone())).await?;
        match outcome {
            Outcome::Done { .. } => return Ok(class),
            Outcome::Refused(Refusal::Stale) => {}
            Outcome::Refused(Refusal::NotFound) => return Err(unknown(wanted.name.as_str())),
            Outcome::Refused(refusal) => return Err(refusal.into()),
        }
    }
    Err(Problem::Conflict(format!("class '{}' keeps changing", wanted.name)))
}

/// The class `name`.
///
/// # Errors
/// [`Problem::NotFound`].
pub async fn get(state: &State, name: &str) -> Result<Class, Problem> {
    state.store.class(name).await?.ok_or_else(|| unknown(name))
}

/// Every class, in the order of the name.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State) -> Result<Vec<Class>, Problem> {
    Ok(state.store.classes().await?)
}

/// Deletes a class and ends its instances.
///
/// # Errors
/// [`Problem::NotFound`].
pub async fn delete(state: &State, name: &str) -> Result<(), Problem> {
    let outcome = state.commit(Fact::DeleteClass(ClassRef { name: name.into() })).await?;
    match outcome.done() {
        Ok(_) => Ok(()),
        Err(Refusal::NotFound) => Err(unknown(name)),
        Err(refusal) => Err(refusal.into()),
    }
}

async fn checked(state: &State, draft: Draft) -> Result<Class, Problem> {
    let profile = lifetimes::instance(&state.config.ttl)?;
    // Read anew: an operator's alias of a moment ago counts, whichever server took it.
    state.view.follow().await?;
    let checked = state
        .view
        .look(|registry| class::check(draft, &state.trust_domain, &registry.graph.alias_ids(), profile, state.now()))?;
    Ok(checked?)
}

fn unknown(name: &str) -> Problem {
    Problem::NotFound(format!("no class '{name}'"))
}
