//! The record, read in order and without gaps.

use crate::{problem::Problem, state::State, store::StoredEvent};

/// Events read at once.
const PAGE: u32 = 256;

/// A place in the log from which events are read on.
#[derive(Debug)]
pub struct Reader {
    after: Option<i64>,
}

impl Reader {
    /// Reads events with a number above `after`; `None` reads from the first.
    pub fn new(after: Option<i64>) -> Self {
        Self { after: after.filter(|number| *number >= 0) }
    }

    /// The next events, in order; none where the end is reached.
    ///
    /// # Errors
    /// [`Problem::Unavailable`]; reading on continues at the same place.
    pub async fn next(&mut self, state: &State) -> Result<Vec<StoredEvent>, Problem> {
        let events = state.store.events(self.after, PAGE).await?;
        if let Some(last) = events.last() {
            self.after = Some(last.number);
        }
        Ok(events)
    }
}
