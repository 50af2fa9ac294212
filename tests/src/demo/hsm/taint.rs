//! A key is tainted: everything that it signed is replaced, by the attestors themselves.

use std::time::{Duration, Instant};

use super::{
    super::{setting::Setting, timeline::TimelineEvent},
    Spoil, authorities, say,
};
use crate::process::until;

/// The publish delay of the demo, and some.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);
/// For the record to show what an operator did.
const RECORDED_WITHIN: Duration = Duration::from_secs(3);
/// A quarter of what is left of a node's SVID, its poll, and some.
const ROTATED_WITHIN: Duration = Duration::from_secs(35);
/// For agents to tell of calls, which they do every second.
const TOLD_WITHIN: Duration = Duration::from_secs(6);
/// Calls of each agent without the old authority: a few connections.
const CALLS_AFTERWARDS: u64 = 100;

/// Another authority signs, the one before is tainted, every identity rotates, and then the old one leaves the bundle.
pub fn everything_rotates(setting: &Setting, spoil: Option<Spoil>) -> Result<(), String> {
    say("act 6: the key of the active X.509 authority is tainted");
    let playground = &setting.playground;
    let old = authorities::active(playground, "x509")?.authority_id;
    let before = setting.timeline.newest();
    playground.ca(&["authority", "prepare", "x509"])?;
    let made =
        setting.timeline.wait_for(before, RECORDED_WITHIN, "another authority", |e| e.kind == "authority.prepared")?;
    let new = made.subject;
    // Refused until consumers of the bundle had time to take it up.
    until(PUBLISHED_WITHIN, || playground.ca(&["authority", "activate", &new]))?;
    let event = |kind: &'static str, id: &str| {
        let what = format!("the {kind} of {id}");
        setting.timeline.wait_for(before, RECORDED_WITHIN, &what, |e| e.kind == kind && e.subject == id)
    };
    let activated = event("authority.activated", &new)?;
    let begun = Instant::now();
    if spoil != Some(Spoil::NoTaint) {
        playground.ca(&["authority", "taint", &old])?;
    }
    let tainted = event("authority.tainted", &old)?;
    println!("event #{}: {new} signs; event #{}: {old} is tainted", activated.number, tainted.number);
    identities_move(setting, activated.number, &new)?;
    println!(
        "every instance, every node and the CA itself is under the new key {:.1} s after the taint",
        begun.elapsed().as_secs_f32()
    );
    tell_the_last_svid(setting, &old, tainted.number)?;
    setting.agents.check_calls()?;
    playground.ca(&["authority", "revoke", &old, "--yes"])?;
    let revoked = event("authority.revoked", &old)?;
    for agent in &setting.agents.0 {
        let calls = agent.calls() + CALLS_AFTERWARDS;
        agent.wait(TOLD_WITHIN, "calls without the old authority", |s| {
            s.peers.values().map(|counts| counts.calls).sum::<u64>() >= calls
        })?;
    }
    println!("event #{}: nothing it signed is accepted any more, and the agents talk on", revoked.number);
    setting.agents.check_calls()
}

/// Waits until each instance, each node and the CA itself has an SVID of `authority`, and each agent uses it.
fn identities_move(setting: &Setting, after: i64, authority: &str) -> Result<(), String> {
    let end = Instant::now() + ROTATED_WITHIN;
    let left = || end.saturating_duration_since(Instant::now());
    let moved = |kind: &str, id: &str| {
        let of = |e: &TimelineEvent| e.kind == kind && e.subject == id && e.fields["authority"] == authority;
        setting.timeline.wait_for(after, left(), &format!("an SVID of {id} under the new key"), of)
    };
    for agent in &setting.agents.0 {
        let event = moved("instance.renewed", &agent.seen().id)?;
        let serial = event.fields["serial"].as_str().ok_or("an SVID without a serial")?.to_owned();
        agent.wait(left(), "the use of its new SVID", |s| s.serials.contains(&serial))?;
    }
    for machine in &setting.playground.machines {
        moved("node.attested", &machine.spiffe_id)?;
    }
    moved("svid.minted", &format!("spiffe://{}/spire/server", setting.playground.trust_domain)).map(drop)
}

/// The record has the last SVID of the tainted key, and it is from before the taint.
fn tell_the_last_svid(setting: &Setting, authority: &str, tainted: i64) -> Result<(), String> {
    let all = setting.timeline.all();
    let last = all.iter().rev().find(|e| e.fields["authority"] == authority && e.fields["serial"].is_string());
    let last = last.ok_or("the tainted authority signed nothing")?;
    if last.number > tainted {
        return Err(format!("event #{} is of the tainted authority, which event #{tainted} ended", last.number));
    }
    let (number, kind, subject) = (last.number, &last.kind, &last.subject);
    println!("the last SVID of the tainted key: event #{number} {kind} {subject}, serial {}", last.fields["serial"]);
    Ok(())
}
