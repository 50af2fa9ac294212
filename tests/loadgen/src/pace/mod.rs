//! Loops that make calls: closed (so many at once) and open (so many a second, whatever the server does).

mod closed;
mod ledger;
mod open;

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use ledger::Ledger;

use crate::stats::{Outcome, Tally};

/// Something that can be called again and again.
pub trait Call: Send + Sync + 'static {
    /// What latencies are filed under.
    fn name(&self) -> &'static str;

    /// Makes the `number`th call; numbers begin at 0 and none comes twice.
    fn call(&self, number: u64) -> impl Future<Output = Outcome> + Send;
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many calls are under way at any time.
    Closed { in_flight: usize },
    /// A call begins every `1 / rate` seconds; at most `in_flight` are under way.
    Open { rate: f64, in_flight: usize },
}

impl Pace {
    /// `closed` or `open`, for the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
        }
    }
}

/// Makes calls for so long, or until `stop`; answers what they came to, when the last one has answered.
pub async fn run<C: Call>(call: &Arc<C>, pace: Pace, lasting: Duration, stop: &CancellationToken) -> Tally {
    match pace {
        Pace::Closed { in_flight } => closed::run(call, in_flight, lasting, stop).await,
        Pace::Open { rate, in_flight } => open::run(call, rate, in_flight, lasting, stop).await,
    }
}
