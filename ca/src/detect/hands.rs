//! All that a detector can do: propose, and have its proposal hold the instance within the caps.
//!
//! The task that acts is given this and no [`State`]: it cannot say anything else to the database.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    state::State,
    store::{Fact, Outcome, Propose, StoreError},
};

type Answer = BoxFuture<'static, Result<Vec<Outcome>, StoreError>>;

pub(super) struct Hands(Box<dyn Fn(Vec<Propose>) -> Answer + Send + Sync>);

impl Hands {
    pub(super) fn of(state: &Arc<State>) -> Self {
        let state = Arc::clone(state);
        Self(Box::new(move |found| {
            let state = Arc::clone(&state);
            let facts = found.into_iter().map(Fact::Propose).collect();
            Box::pin(async move { state.commit_all(facts).await })
        }))
    }

    /// Writes proposals; an outcome for each, in order.
    pub(super) async fn propose(&self, found: Vec<Propose>) -> Result<Vec<Outcome>, StoreError> {
        (self.0)(found).await
    }
}
