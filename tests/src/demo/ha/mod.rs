//! The demo of high availability: three servers of one CA die in turn, and nobody who has an identity, or wants one, notices.
//!
//! They share one PostgreSQL; each node's attestor knows all three. Agents talk all the time, and one process after the other
//! begins an instance, asks once and ends. Whatever fails anywhere fails the demo.

mod acts;
mod newcomers;
mod stage;
mod summary;

use std::time::Duration;

use clap::ValueEnum;

use super::{SPOILED_CALL_EVERY_MS, agents::CALL_EVERY_MS, say};
use acts::Death;
use stage::Stage;

/// Ways to spoil the demo, so that tests see it fail. None touches the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Spoil {
    /// Nobody starts the servers again, so that the last one has nobody beside it.
    NeverBack,
}

/// Servers of the CA.
const SERVERS: usize = 3;

/// For the last of the rotations; each comes within two thirds of a life of 24 s.
const ROTATED_WITHIN: Duration = Duration::from_secs(40);

/// How much takes part.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    nodes: usize,
    agents_per_node: usize,
    call_every_ms: u64,
    /// Instances that must begin on each node after each death.
    newcomers: usize,
    /// Rotations that every agent must have made in the end.
    rotations: usize,
}

/// What `make demo-ha` shows.
const FULL: Pace = Pace { nodes: 3, agents_per_node: 2, call_every_ms: CALL_EVERY_MS, newcomers: 20, rotations: 2 };

/// The same acts for a test among many others.
const SHORT: Pace =
    Pace { nodes: 2, agents_per_node: 1, call_every_ms: SPOILED_CALL_EVERY_MS, newcomers: 2, rotations: 0 };

/// Runs the demo of high availability; a short one has the same acts.
///
/// # Errors
/// The act that did not go as told, and why.
pub fn run(spoil: Option<Spoil>, short: bool) -> Result<(), String> {
    let pace = if short || spoil.is_some() { SHORT } else { FULL };
    let mut stage = Stage::build(pace)?;
    acts::everybody_talks(&mut stage)?;
    let mut dead = Vec::new();
    for act in 2..2 + SERVERS {
        acts::dies(&mut stage, act, Death::Killed, &mut dead, spoil)?;
    }
    dead.clear();
    acts::dies(&mut stage, 2 + SERVERS, Death::Stopped, &mut dead, spoil)?;
    stage.agents.wait_for_rotations(stage.pace.rotations, ROTATED_WITHIN)?;
    summary::print(&mut stage)
}
