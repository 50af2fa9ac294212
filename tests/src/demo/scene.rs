//! What the attacks are played with: TPM nodes, and a policy that watches one PCR.

use std::path::Path;

use super::{Spoil, setting::Scene};
use crate::playground::{Lifetimes, Options};

/// Nodes of the demo.
const NODES: usize = 2;
/// Instances on each node.
const AGENTS_PER_NODE: usize = 2;
/// The PCR the policy watches and the attack extends; firmware does not use it.
pub const WATCHED_PCR: u32 = 11;

/// Spoiled, the CA has no policy: PCRs are quoted and nothing is asked of them.
pub fn attacks(folder: &Path, spoil: Option<Spoil>) -> Result<Scene, String> {
    let policy = folder.join("policies.toml");
    std::fs::write(&policy, policy_text()).map_err(|e| e.to_string())?;
    let lifetimes = Lifetimes {
        instance_ttl: Some("24s".into()),
        node_ttl: Some("40s".into()),
        policy_file: (spoil != Some(Spoil::NoPolicy)).then_some(policy),
        ..Lifetimes::default()
    };
    Ok(Scene {
        opening: "starting a CA and two nodes, each with its own TPM, enrolled",
        options: Options {
            nodes: NODES,
            trust_domain: "demo.test".into(),
            lifetimes,
            ..Options::new(folder.join("playground"))
        },
        proof: "tpm:enrolled:yes",
        agents_per_node: AGENTS_PER_NODE,
    })
}

/// The watched PCR must still be zero.
fn policy_text() -> String {
    let zero = hex::encode([0; 32]);
    format!(
        "[[tpm.policy]]\nname = \"demo\"\nmatch = {{}}\nbank = \"sha256\"\npcrs = [{WATCHED_PCR}]\n\n\
         [tpm.policy.golden]\n\"{WATCHED_PCR}\" = [\"{zero}\"]\n\n\
         [tpm.policy.log]\nrequired = false\n\n[tpm.policy.state]\nfirst_use = \"allow\"\non_change = \"alert\"\n"
    )
}
