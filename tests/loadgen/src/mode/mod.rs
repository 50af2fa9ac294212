//! What can be measured; a file each.

pub mod agents;
mod holders;
pub mod issue;
pub mod jwt;
mod muster;
pub mod propagate;
pub mod reconnect;
pub mod storm;
pub mod workload;

use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;

use crate::pace::Pace;

/// Most calls of an open loop that may be under way: a server that stalls does not fill our memory.
const OPEN_IN_FLIGHT: usize = 4096;

/// How calls follow each other.
#[derive(Args, Clone, Copy, Debug)]
pub struct PaceArgs {
    /// Closed loop: calls under way at any time.
    #[arg(long, value_name = "N", default_value = "16")]
    in_flight: NonZeroUsize,
    /// Open loop instead: calls begun in a second, whatever the server does; latency counts from when a call was due.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "in_flight")]
    rate: Option<NonZeroU32>,
}

impl PaceArgs {
    /// What was asked for.
    pub fn pace(self) -> Pace {
        match self.rate {
            Some(rate) => Pace::Open { rate: f64::from(rate.get()), in_flight: OPEN_IN_FLIGHT },
            None => Pace::Closed { in_flight: self.in_flight.get() },
        }
    }
}
