//! What is counted: latencies, tallies that add up over tasks and processes, and rotations by second.

mod latency;
mod seconds;
mod tally;

pub use latency::Latency;
pub use seconds::Seconds;
pub use tally::{Outcome, Tally};
