//! The demos: agents on two nodes talk all the time, and each act is judged by the CA's own events.
//!
//! [`run`]: TPM nodes, attacks, and the kill switch. [`ha::run`]: three servers, each of which dies. [`hsm::run`]: keys in tokens, an HSM
//! that dies and comes back, a tainted key.

mod acts;
pub mod agents;
mod attacker;
pub mod ha;
pub mod hsm;
pub mod protocol;
mod replay;
mod revoked;
mod scene;
mod setting;
mod summary;
mod tamper;
mod timeline;

use std::time::Duration;

use clap::ValueEnum;

pub use timeline::{Timeline, TimelineEvent};

/// Ways to spoil the demo, so that tests see it fail. None touches the product: each changes what the demo itself does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Spoil {
    /// The "replayed" attestation is a fresh one.
    FreshEvidence,
    /// The policy names no PCR value, so the extended PCR is allowed.
    NoPolicy,
    /// The class of the revoked instance is opened again before it forks.
    ReopenedClass,
    /// The attestor of the first node is stopped past a rotation.
    StoppedAttestor,
}

/// How long the agents talk before the attacks at most: three rotations of every instance.
const ROTATIONS_WITHIN: Duration = Duration::from_secs(60);
/// Rotations every instance must make before the attacks.
const ROTATIONS: usize = 3;
/// The same in a demo that is spoiled later on, which is told by an act after the rotations.
const ROTATIONS_BEFORE_SPOILED_ACTS: usize = 1;

/// The last attack stops the other node.
const GOOD_NODE: usize = 0;

/// What a spoiled demo shows needs no haste: five of them run at once among the tests.
const SPOILED_CALL_EVERY_MS: u64 = 250;

/// Runs the demo of the attacks and of the kill switch.
///
/// # Errors
/// The act that did not go as told, and why.
pub fn run(spoil: Option<Spoil>) -> Result<(), String> {
    let mut setting = setting::Setting::build(|folder| scene::attacks(folder, spoil))?;
    match spoil {
        None => setting.agents.introduce()?,
        Some(_) => setting.agents.introduce_at(SPOILED_CALL_EVERY_MS)?,
    }
    if spoil == Some(Spoil::StoppedAttestor) {
        setting.stop_attestor(0)?;
    }
    let rotations = match spoil {
        Some(Spoil::FreshEvidence | Spoil::NoPolicy | Spoil::ReopenedClass) => ROTATIONS_BEFORE_SPOILED_ACTS,
        Some(Spoil::StoppedAttestor) | None => ROTATIONS,
    };
    setting.agents.wait_for_rotations(rotations, ROTATIONS_WITHIN)?;
    setting.agents.check_calls()?;
    say("three rotations of every instance, every call answered; now the acts");
    let thief = acts::stolen_identity(&mut setting)?;
    acts::replay(&mut setting, spoil)?;
    acts::copied_state(&mut setting)?;
    acts::stranger(&mut setting)?;
    acts::stolen_identity_ends(&thief)?;
    revoked::revoked_instance(&mut setting, spoil)?;
    acts::extended_pcr(&mut setting)?;
    tamper::rewritten_record(&setting)?;
    summary::print(&setting, |node| node == GOOD_NODE)
}

/// A line of the demo itself, apart from the record's lines.
fn say(text: &str) {
    println!("\n== {text}");
}
