//! The kill switch: an operator revokes one of the instances that talk, and times are told from the command on.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use super::{
    Spoil,
    acts::{REFUSAL_WITHIN, talks_on},
    agents::{Agent, Seen},
    protocol::{Asked, Birth, End, Told},
    say,
    setting::{CLASS, Setting},
};

/// From the command's start until the last peer has hung up: what `chancery-ca bound` prints for our SDK at our attestor.
const HUNG_UP_WITHIN: Duration = Duration::from_millis(2250);
/// A call over the connection that is kept: a handshake, and one beat of the calls.
const HELD_WITHIN: Duration = Duration::from_secs(5);

/// Revokes an instance of node 1: every other hangs up on it, it begins again in no way, and the others talk on.
pub fn revoked_instance(setting: &mut Setting, spoil: Option<Spoil>) -> Result<(), String> {
    say("act 5: an operator revokes one of the instances that talk; it tries to come back by forking");
    setting.agents.check_calls()?;
    let Some((victim, others)) = setting.agents.0.split_last_mut() else { return Err("no agent".into()) };
    let id = victim.seen().id;
    hold(victim, others)?;
    let after = setting.timeline.newest();
    let asked = SystemTime::now();
    let said = setting.playground.ca(&["revoke", "--instance", &id, "--reason", "reads what it should not"])?;
    let answered = asked.elapsed().map_err(|e| e.to_string())?;
    victim.given_up = true;
    println!("{}", said.trim_end());
    for other in &*others {
        tell_hang_up(other, &id, asked)?;
    }
    let find = |what: &str, kind: &str, subject: &str| {
        setting.timeline.wait_for(after, REFUSAL_WITHIN, what, |e| e.kind == kind && e.subject == subject)
    };
    let revoked = find("the revocation", "instance.revoked", &id)?;
    let closed = find("the closing of its class", "class.closed", CLASS)?;
    println!(
        "events #{} (the instance) and #{} (its class on that node); the command was answered after {} ms",
        revoked.number,
        closed.number,
        answered.as_millis()
    );
    victim.wait(REFUSAL_WITHIN, "the loss of the identity", |seen| seen.lost)?;
    let node = setting.playground.machines.get(victim.node).ok_or("no node of the victim")?.spiffe_id.clone();
    if spoil == Some(Spoil::ReopenedClass) {
        setting.playground.ca(&["class", "reopen", &node, CLASS, "--reason", "the demo is to fail"])?;
    }
    for by in [Birth::Fork, Birth::Exec] {
        cannot_come_back(victim, by)?;
    }
    let refused = setting.timeline.wait_for(after, REFUSAL_WITHIN, "the refused beginning", |e| {
        e.kind == "beginning.refused" && e.subject == node && e.fields["reason"] == "CLASS_CLOSED"
    })?;
    println!("event #{} is the refused beginning; until `class reopen` it stays so", refused.number);
    others.iter().try_for_each(talks_on)?;
    setting.agents.check_calls()?;
    println!("the others talk on, and none of their calls to each other failed");
    Ok(())
}

/// Has the victim and each other call each other over connections that are kept, and waits until all are in use.
fn hold(victim: &mut Agent, others: &mut [Agent]) -> Result<(), String> {
    let id = victim.seen().id;
    let ids: Vec<String> = others.iter().map(|other| other.seen().id).collect();
    victim.tell(&Told::Hold { ids: ids.clone() })?;
    for other in &mut *others {
        other.tell(&Told::Hold { ids: vec![id.clone()] })?;
    }
    for other in others {
        other.wait(HELD_WITHIN, "a call over a kept connection", |seen| seen.held.contains(&id))?;
    }
    let all = |held: &BTreeSet<String>| ids.iter().all(|id| held.contains(id));
    victim.wait(HELD_WITHIN, "calls over kept connections", |seen| all(&seen.held)).map(|_| ())
}

/// Waits until `other` has closed both its connections with `id`, and tells when, counted from `asked`.
fn tell_hang_up(other: &Agent, id: &str, asked: SystemTime) -> Result<(), String> {
    let both = |end| move |seen: &Seen| seen.hung_up_on(id, end).is_some();
    other.wait(REFUSAL_WITHIN, "hanging up on whom it called", both(End::Calling))?;
    let seen = other.wait(REFUSAL_WITHIN, "hanging up on who called it", both(End::Called))?;
    let (Some(calling), Some(called)) = (seen.hung_up_on(id, End::Calling), seen.hung_up_on(id, End::Called)) else {
        return Err(format!("{} did not hang up", seen.id));
    };
    let since = |at_us: u64| (SystemTime::UNIX_EPOCH + Duration::from_micros(at_us)).duration_since(asked);
    let (out, inward) = (since(calling.at_us), since(called.at_us));
    let (Ok(out), Ok(inward)) = (out, inward) else {
        return Err(format!("{} hung up before anybody asked for it", seen.id));
    };
    let (out_ms, in_ms) = (out.as_secs_f64() * 1e3, inward.as_secs_f64() * 1e3);
    let again = calling.again.as_deref().ok_or_else(|| format!("{}: the revoked peer was let in again", seen.id))?;
    println!(
        "node {}: {} hung up {out_ms:.0} ms after the command began (where it calls, at its next call)",
        other.node, seen.id
    );
    println!("        and {in_ms:.0} ms (where it was called); its next handshake with the revoked one: {again}");
    match out.max(inward) {
        late if late > HUNG_UP_WITHIN => {
            Err(format!("{} hung up after {late:?}, later than the bound of {HUNG_UP_WITHIN:?}", seen.id))
        }
        _ => Ok(()),
    }
}

/// Has a process made of the revoked one, which must get nothing.
fn cannot_come_back(victim: &mut Agent, by: Birth) -> Result<(), String> {
    let (what, who) = match by {
        Birth::Exec => (
            "the answers to the process after exec",
            "the revoked process, after it replaced itself by its own program,",
        ),
        Birth::Fork => ("the answers to the child", "the child of the revoked process, the same program and user,"),
    };
    victim.tell(&Told::Bear { by })?;
    let seen = victim.wait(REFUSAL_WITHIN, what, |seen| seen.asked_by(by).is_some())?;
    let Some(Asked { pid, x509, jwt, .. }) = seen.asked_by(by) else { return Err(format!("no word of {who}")) };
    match (x509, jwt) {
        (Err(x509), Err(jwt)) => {
            println!("{who} process {pid}, is given nothing:");
            println!("        X509-SVID: {x509}");
            println!("        JWT-SVID:  {jwt}");
            Ok(())
        }
        (Ok(id), _) | (_, Ok(id)) => Err(format!("{who} got the identity {id}")),
    }
}
