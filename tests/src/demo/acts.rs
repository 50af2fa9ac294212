//! The attacks. Each waits for the CA's own event; what the CA did not record did not happen.

use std::{path::Path, time::Duration};

use super::{
    Spoil,
    agents::{Agent, Seen},
    attacker::Thief,
    protocol::Told,
    replay::replay_attestation,
    say,
    scene::WATCHED_PCR,
    setting::Setting,
};
use crate::{
    playground::Playground,
    process::{Process, run},
    swtpm::{Manufacturer, Swtpm},
};

/// How long the record may take to show a refusal: one summary a second, and the attestor's start.
pub(super) const REFUSAL_WITHIN: Duration = Duration::from_secs(12);
/// Half of the node SVID's life, its jitter, and the refusal itself.
const RENEWAL_WITHIN: Duration = Duration::from_secs(35);

/// Key and SVID copied together work until their end: that is what a bearer of both is.
pub fn stolen_identity(setting: &mut Setting) -> Result<Thief, String> {
    say("act 1: a thief with the agent's uid copies an instance's key AND its SVID");
    let folder = setting.scratch.join("thief");
    std::fs::create_dir(&folder).map_err(|e| e.to_string())?;
    let victim = setting.agents.0.first_mut().ok_or("no agent")?;
    victim.tell(&Told::Export { folder: folder.clone() })?;
    let seen = victim.wait(Duration::from_secs(3), "the export", |s| s.exported)?;
    let peer = setting.agents.0.get(1).ok_or("no second agent")?.seen();
    let thief = Thief::new(&folder, &peer.id, peer.address.ok_or("no address")?, &setting.playground)?;
    thief.call().map_err(|e| format!("the copied pair should work until its end: {e}"))?;
    println!("the copied pair works: {} is spoken for, {} s more", seen.id, thief.seconds_left());
    println!("that is the limit of a key in memory, and why it lives seconds here, not months");
    Ok(thief)
}

/// After its end the copied pair is refused.
pub fn stolen_identity_ends(thief: &Thief) -> Result<(), String> {
    say("act 1, its end: the copied pair after its notAfter");
    thief.wait_for_end();
    match thief.call() {
        Err(refusal) => {
            println!("refused: {refusal}");
            Ok(())
        }
        Ok(()) => Err("a copied pair still works after its end".into()),
    }
}

/// Genuine evidence of an enrolled TPM, sent once more on another connection.
pub fn replay(setting: &mut Setting, spoil: Option<Spoil>) -> Result<(), String> {
    say("act 2: the genuine attestation of an enrolled TPM, recorded and sent again");
    let after = setting.timeline.newest();
    let fresh = spoil == Some(Spoil::FreshEvidence);
    let admitted = replay_attestation(&setting.playground, fresh)?;
    if admitted {
        return Err("the CA admitted a replayed attestation".into());
    }
    wait_for_refusal(setting, after, "ACTIVATION_FAILED")
}

/// The whole state directory of node 0's attestor, on a machine with another TPM.
pub fn copied_state(setting: &mut Setting) -> Result<(), String> {
    say("act 3: the whole state directory of node 0's attestor, copied to a machine with another TPM");
    let from = setting.playground.machines.first().ok_or("no node")?.data_dir.clone();
    let folder = setting.scratch.join("copied");
    copy_tree(&from, &folder.join("data"))?;
    intruder(setting, &folder)
}

/// A genuine TPM of the same manufacturer that nobody enrolled.
pub fn stranger(setting: &mut Setting) -> Result<(), String> {
    say("act 4: a stranger's genuine TPM that nobody enrolled");
    let folder = setting.scratch.join("stranger");
    intruder(setting, &folder)
}

/// Runs an attestor in `folder` with a TPM of its own; the CA must refuse it and it must serve nobody.
fn intruder(setting: &mut Setting, folder: &Path) -> Result<(), String> {
    let after = setting.timeline.newest();
    let playground = &setting.playground;
    let nodes_before = playground.ca(&["node", "list", "--output", "json"])?.matches("/spire/agent/").count();
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let tpm_state = folder.join("tpm");
    Manufacturer::new(&playground.dir.join("manufacturer"))?.make(&tpm_state)?;
    let tpm = Swtpm::start(&tpm_state)?;
    let config = folder.join("attestor.toml");
    std::fs::write(&config, intruder_config(playground, folder, &tpm)).map_err(|e| e.to_string())?;
    let program = playground.bin.path("chancery-attestor");
    let config_arg = config.display().to_string();
    let process = Process::start("intruder", &program, &["run", "--config", &config_arg], &folder.join("attestor.log"));
    let mut process = process.map_err(|e| e.to_string())?;
    wait_for_refusal(setting, after, "EK_UNKNOWN")?;
    let socket = folder.join("workload.sock").display().to_string();
    let healthy = run(&program, &["healthcheck", "--socket", &socket]).is_ok();
    process.stop();
    let nodes_after = setting.playground.ca(&["node", "list", "--output", "json"])?.matches("/spire/agent/").count();
    match (healthy, nodes_after == nodes_before) {
        (false, true) => Ok(()),
        (true, _) => Err("the intruder's attestor serves identities".into()),
        (_, false) => Err("the intruder became a node".into()),
    }
}

fn intruder_config(playground: &Playground, folder: &Path, tpm: &Swtpm) -> String {
    format!(
        "trust_domain = {:?}\nca_address = \"{}\"\ntrust_bundle = {:?}\ndata_dir = {:?}\nworkload_socket = {:?}\n\
         admin_socket = {:?}\nnode_attestor = \"tpm\"\n\n[tpm]\ntcti = {:?}\n",
        playground.trust_domain,
        playground.authority.grpc,
        playground.authority.bundle_pem,
        folder.join("data"),
        folder.join("workload.sock"),
        folder.join("admin.sock"),
        tpm.tcti()
    )
}

fn wait_for_refusal(setting: &Setting, after: i64, reason: &str) -> Result<(), String> {
    let what = format!("a refusal with {reason}");
    let event = setting
        .timeline
        .wait_for(after, REFUSAL_WITHIN, &what, |e| e.kind == "strangers.refused" && e.subject == reason)?;
    println!("refused: event #{} says {reason}; no node was touched", event.number);
    Ok(())
}

/// Node 1 boots something the policy does not allow: refused at its renewal, its instances end, the others go on.
pub fn extended_pcr(setting: &mut Setting) -> Result<(), String> {
    say("act 6: a PCR of node 1 is extended to a value the policy does not allow");
    setting.agents.check_calls()?;
    let after = setting.timeline.newest();
    let doomed: Vec<String> =
        setting.agents.0.iter().filter(|a| a.node == 1 && !a.given_up).map(|a| a.seen().id).collect();
    for agent in setting.agents.0.iter_mut().filter(|a| a.node == 0) {
        for id in &doomed {
            agent.tell(&Told::Forget { id: id.clone() })?;
        }
    }
    let machine = setting.playground.machines.get(1).ok_or("no second node")?;
    let node_id = machine.spiffe_id.clone();
    machine.tpm.as_ref().ok_or("no TPM")?.extend(WATCHED_PCR, [0x42; 32])?;
    let failed = setting.timeline.wait_for(after, RENEWAL_WITHIN, "the refusal of node 1", |e| {
        e.kind == "node.failed" && e.subject == node_id && e.fields["reason"] == "PCR_POLICY"
    })?;
    for id in &doomed {
        setting.timeline.wait_for(after, REFUSAL_WITHIN, "the revocation of an instance", |e| {
            e.kind == "instance.revoked" && e.subject == *id
        })?;
    }
    for agent in setting.agents.0.iter().filter(|a| a.node == 1) {
        agent.wait(REFUSAL_WITHIN, "the loss of the identity", |s| s.lost)?;
    }
    println!("node 1 was refused by event #{}; what ran on it is revoked", failed.number);
    setting.agents.0.iter().filter(|a| a.node == 0).try_for_each(talks_on)
}

/// Waits until the agent has told more answered calls than it had told before.
pub(super) fn talks_on(agent: &Agent) -> Result<(), String> {
    let before = agent.calls();
    let more = |seen: &Seen| seen.peers.values().map(|counts| counts.calls).sum::<u64>() > before;
    agent.wait(REFUSAL_WITHIN, "further calls", more).map(|_| ())
}

pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), String> {
    let say = |e: std::io::Error| format!("{}: {e}", from.display());
    std::fs::create_dir_all(to).map_err(say)?;
    for entry in std::fs::read_dir(from).map_err(say)? {
        let entry = entry.map_err(say)?;
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), target).map(|_| ()).map_err(say)?,
        }
    }
    Ok(())
}
