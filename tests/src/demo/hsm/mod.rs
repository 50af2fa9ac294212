//! The demo of hardware keys: the CA's are in a token behind a killable server, each node's in a token of its own.
//!
//! SoftHSM2 stands for the HSMs, `p11-kit server` for the network between the CA and its HSM. Agents talk all the time;
//! the HSM is killed and comes back; an authority's key is tainted and every identity moves to another one.

mod acts;
mod authorities;
pub mod gauge;
mod outage;
mod taint;

use std::{path::Path, time::Duration};

use clap::ValueEnum;

use super::{
    SPOILED_CALL_EVERY_MS,
    agents::CALL_EVERY_MS,
    say,
    setting::{Scene, Setting},
    summary,
};
use crate::playground::{Attest, CaKeys, Lifetimes, Options};

/// Ways to spoil the demo, so that tests see it fail. None touches the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Spoil {
    /// The HSM stays away.
    NeverBack,
    /// Nobody says that the key is tainted.
    NoTaint,
}

/// Nodes of the demo, each with a token of its own.
const NODES: usize = 2;

/// How long things take, and how many take part.
struct Pace {
    /// Life of an instance's SVID, seconds.
    instance_secs: i64,
    /// Life of a node's SVID, seconds. At its half still longer than the instance's.
    node_secs: i64,
    agents_per_node: usize,
    call_every_ms: u64,
    /// Whether every instance rotates once before the HSM is killed.
    rotates_first: bool,
    /// How long the HSM is away.
    down_for: Duration,
}

/// The CA looks for its token after 1, 3, 7 and 15 s or a little less: it is back within 16 s of the kill, and then the
/// oldest SVID has 8 s left.
const FULL: Pace = Pace {
    instance_secs: 40,
    node_secs: 90,
    agents_per_node: 2,
    call_every_ms: CALL_EVERY_MS,
    rotates_first: true,
    down_for: Duration::from_secs(8),
};

/// A spoiled demo comes to the act that fails as soon as it can: it runs among many other tests.
const SPOILED: Pace = Pace {
    instance_secs: 20,
    node_secs: 50,
    agents_per_node: 1,
    call_every_ms: SPOILED_CALL_EVERY_MS,
    rotates_first: false,
    down_for: Duration::ZERO,
};

/// Runs the demo of hardware keys.
///
/// # Errors
/// The act that did not go as told, and why.
pub fn run(spoil: Option<Spoil>) -> Result<(), String> {
    let pace = if spoil.is_none() { &FULL } else { &SPOILED };
    let mut setting = Setting::build(|folder| Ok(scene(folder, pace)))?;
    acts::nodes_by_their_tokens(&setting)?;
    acts::authorities_in_the_hsm(&setting)?;
    setting.agents.introduce_at(pace.call_every_ms)?;
    if pace.rotates_first {
        acts::rotations(&setting, pace)?;
    }
    let outage = outage::killed(&mut setting, pace)?;
    outage::over(&mut setting, &outage, pace, spoil)?;
    taint::everything_rotates(&setting, spoil)?;
    summary::print(&setting, |_| true)
}

fn scene(folder: &Path, pace: &Pace) -> Scene {
    let lifetimes = Lifetimes {
        instance_ttl: Some(format!("{}s", pace.instance_secs)),
        node_ttl: Some(format!("{}s", pace.node_secs)),
        publish_delay: Some("2s".into()),
        ..Lifetimes::default()
    };
    Scene {
        opening: "starting a network HSM, a CA with its keys in it, and two nodes, each with a token of its own",
        options: Options {
            nodes: NODES,
            attest: Attest::Pkcs11Certified,
            ca_keys: CaKeys::NetworkHsm,
            trust_domain: "demo.test".into(),
            lifetimes,
            ..Options::new(folder.join("playground"))
        },
        proof: acts::PROOF,
        agents_per_node: pace.agents_per_node,
    }
}
