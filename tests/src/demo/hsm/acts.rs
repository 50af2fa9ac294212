//! What comes before the outage: who the nodes are, where the CA's keys are, and that everybody rotates.

use std::time::Duration;

use chancery_sdk::tls::system_clock;

use super::{super::setting::Setting, Pace, authorities, say};

/// What a node's token proves here: an operator's CA says that it saw the key made in it.
pub const PROOF: &str = "pkcs11:device-cert";
/// The nodes are attested already; the record only has to be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Each node was attested by the key in its token, at the level that a class asks for.
pub fn nodes_by_their_tokens(setting: &Setting) -> Result<(), String> {
    say("act 1: each node proves itself by a key in its own token");
    for machine in &setting.playground.machines {
        let id = &machine.spiffe_id;
        let event = setting
            .timeline
            .wait_for(-1, READ_WITHIN, "an attestation", |e| e.kind == "node.attested" && e.subject == *id)?;
        let selectors = event.fields["selectors"].as_array().map_or(&[][..], Vec::as_slice);
        if event.fields["attestation_type"] != "pkcs11" || !selectors.iter().any(|s| s == PROOF) {
            return Err(format!("{id}: event #{} does not say {PROOF}: {}", event.number, event.fields));
        }
        println!("event #{}: {id} is {PROOF}", event.number);
    }
    println!(
        "that is: a CA of the operator vouches for the key; no maker of a device does, and nothing is said of the"
    );
    println!("machine around it. The key of the node's TLS is in the token too, which no selector claims");
    Ok(())
}

/// Both authorities' keys are in the HSM, and none is on disk.
pub fn authorities_in_the_hsm(setting: &Setting) -> Result<(), String> {
    say("act 2: the CA's authorities were made in the HSM");
    let rows = authorities::all(&setting.playground)?;
    for row in &rows {
        let (kind, state, label) = (&row.kind, &row.state, &row.key_label);
        println!("{kind:4} {state}: {} key '{label}', {}, SPKI {}", row.key_type, row.key_state, row.spki_sha256);
    }
    let signs = |kind: &str| {
        rows.iter()
            .any(|r| r.kind == kind && r.state == "active" && r.key_state == "generated" && r.key_type == "ec-p256")
    };
    if !signs("x509") || !signs("jwt") {
        return Err("an authority has no key in the HSM".into());
    }
    let on_disk = setting.playground.dir.join("ca/data/keys");
    match on_disk.exists() {
        true => Err(format!("{} exists: there are keys on disk", on_disk.display())),
        false => Ok(()),
    }
}

/// Every instance rotates; then waits until the first one may be due again, so that rotations fall into the outage.
pub fn rotations(setting: &Setting, pace: &Pace) -> Result<(), String> {
    say("act 3: every instance rotates, each SVID signed in the HSM");
    let life = Duration::from_secs(pace.instance_secs.unsigned_abs());
    setting.agents.wait_for_rotations(1, life)?;
    setting.agents.check_calls()?;
    println!("every instance rotated, every call answered: {} so far", setting.agents.calls());
    // Rotations are due from 40 % of a life on.
    let first_end = setting.agents.0.iter().map(|agent| agent.seen().not_after).min().unwrap_or(0);
    let left = first_end - pace.instance_secs * 60 / 100 - system_clock()().0;
    std::thread::sleep(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    Ok(())
}
