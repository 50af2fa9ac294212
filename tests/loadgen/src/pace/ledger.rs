use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stats::Tally;

/// One tally that all tasks of a phase write into.
#[derive(Debug, Default)]
pub struct Ledger {
    // Guards the tally; held for one record, never over an await. A histogram each task would be 270 KB each.
    tally: Mutex<Tally>,
}

impl Ledger {
    /// Opens it for one record.
    pub fn open(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written since the last time this was asked.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.open())
    }
}
