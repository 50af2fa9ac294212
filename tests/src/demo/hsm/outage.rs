//! The HSM dies and comes back. The CA says so, refuses, and goes on by itself with the same keys.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    super::{setting::Setting, timeline::TimelineEvent},
    Pace, Spoil,
    authorities::{self, Row},
    gauge, say,
};
use crate::process::until;

/// Health is looked at once a second.
const RED_WITHIN: Duration = Duration::from_secs(8);
/// The CA looks for an absent token after growing rests; this is enough for the fourth of them.
const BACK_WITHIN: Duration = Duration::from_secs(16);
/// For agents to tell of calls, which they do every second.
const TOLD_WITHIN: Duration = Duration::from_secs(6);

const TOKEN_UP: &str = "chancery_ca_token_up";
const GENERATION: &str = "chancery_ca_token_generation";
const CALLS: &str = "chancery_ca_rpcs_total";
/// UNAVAILABLE: not now, ask again.
const REFUSED: &str = "code=\"14\"";

/// What was so when the HSM was killed.
pub struct Outage {
    began: Instant,
    authorities: Vec<Row>,
    generation: i64,
    refused: i64,
    /// Serials that each agent had had.
    serials: Vec<usize>,
    /// Number of the newest event.
    after: i64,
}

/// The HSM is killed: health is red, nothing is issued, and agents talk on what they hold.
pub fn killed(setting: &mut Setting, pace: &Pace) -> Result<Outage, String> {
    say("act 4: the HSM is killed (SIGKILL)");
    let door = setting.playground.authority.metrics;
    let outage = Outage {
        authorities: authorities::all(&setting.playground)?,
        generation: gauge::sum(door, GENERATION, "")?,
        refused: gauge::sum(door, CALLS, REFUSED)?,
        serials: setting.agents.serials(),
        after: setting.timeline.newest(),
        began: Instant::now(),
    };
    let hsm = setting.playground.authority.hsm().ok_or("the CA has no network HSM")?;
    hsm.kill();
    let calls: Vec<u64> = setting.agents.0.iter().map(super::super::agents::Agent::calls).collect();
    let refusal = match mint(setting) {
        Ok(()) => return Err("the CA signed an SVID without its HSM".into()),
        Err(line) => line,
    };
    let line = refusal.rsplit("Error: ").next().unwrap_or_default();
    println!("nothing is issued; `chancery-ca x509 mint` says: {line}");
    until(RED_WITHIN, || is_red(setting, door))?;
    println!("healthcheck fails, GET /ready answers 503, {TOKEN_UP} is 0");
    std::thread::sleep(pace.down_for.saturating_sub(outage.began.elapsed()));
    for (agent, before) in setting.agents.0.iter().zip(&calls) {
        agent.wait(TOLD_WITHIN, "calls without the HSM", |s| {
            s.peers.values().map(|counts| counts.calls).sum::<u64>() > *before
        })?;
    }
    setting.agents.check_calls()?;
    let more = setting.agents.calls() - calls.iter().sum::<u64>();
    println!("meanwhile {more} more calls among the agents, none failed");
    Ok(outage)
}

/// The HSM is back: the CA goes on by itself, with the same authorities, and every instance rotates before its end.
pub fn over(setting: &mut Setting, outage: &Outage, pace: &Pace, spoil: Option<Spoil>) -> Result<(), String> {
    say("act 5: the HSM comes back");
    if spoil != Some(Spoil::NeverBack) {
        setting.playground.authority.hsm().ok_or("the CA has no network HSM")?.start()?;
    }
    let (back, door) = (Instant::now(), setting.playground.authority.metrics);
    until(BACK_WITHIN, || is_green(setting, door))?;
    let (after, away) = (back.elapsed().as_secs_f32(), outage.began.elapsed().as_secs_f32());
    println!("the CA signs again {after:.1} s after that, {away:.1} s after the kill");
    let refused = gauge::sum(door, CALLS, REFUSED)? - outage.refused;
    println!("{refused} calls were refused meanwhile: attestations, rotations and our x509 mint");
    went_on_by_itself(setting, outage, door)?;
    same_authorities(setting, outage)?;
    let life = Duration::from_secs(pace.instance_secs.unsigned_abs());
    setting.agents.wait_for_successors(&outage.serials, life, "a rotation after the outage")?;
    setting.agents.check_calls()?;
    println!("every instance has rotated before the end of what it held, none lost its identity, no call failed");
    Ok(())
}

/// No restart, no key that was lost or found faulty: only the token's module began anew.
fn went_on_by_itself(setting: &mut Setting, outage: &Outage, door: SocketAddr) -> Result<(), String> {
    setting.playground.tend()?;
    let unwanted = |e: &TimelineEvent| {
        e.number > outage.after && (e.kind == "server.started" || e.kind == "key.lost" || e.kind == "key.faulty")
    };
    if let Some(event) = setting.timeline.all().iter().find(|e| unwanted(e)) {
        return Err(format!("event #{} {} during the outage", event.number, event.kind));
    }
    let generation = gauge::sum(door, GENERATION, "")?;
    if generation <= outage.generation {
        return Err(format!("{GENERATION} is {generation} and was {} before", outage.generation));
    }
    println!("by itself: process {} as before, {GENERATION} {generation}", setting.playground.authority.pid());
    Ok(())
}

fn same_authorities(setting: &Setting, outage: &Outage) -> Result<(), String> {
    let now = authorities::all(&setting.playground)?;
    if now != outage.authorities {
        return Err(format!("the authorities differ: {now:?} now, {:?} before", outage.authorities));
    }
    let signer = authorities::active(&setting.playground, "x509")?.authority_id;
    let minted = setting.timeline.wait_for(outage.after, TOLD_WITHIN, "the minted SVID", |e| {
        e.kind == "svid.minted" && e.subject == probe(setting) && e.fields["authority"] == signer.as_str()
    })?;
    println!("with the same authorities and keys: event #{} is of authority {signer}", minted.number);
    Ok(())
}

fn is_red(setting: &Setting, door: SocketAddr) -> Result<(), String> {
    let (ready, up) = (gauge::ready(door)?, gauge::sum(door, TOKEN_UP, "")?);
    let healthy = setting.playground.ca(&["healthcheck"]).is_ok();
    match (ready, up, healthy) {
        (503, 0, false) => Ok(()),
        _ => Err(format!("the HSM is away; /ready answers {ready}, {TOKEN_UP} is {up}, healthcheck passes: {healthy}")),
    }
}

fn is_green(setting: &Setting, door: SocketAddr) -> Result<(), String> {
    let (ready, up) = (gauge::ready(door)?, gauge::sum(door, TOKEN_UP, "")?);
    match (ready, up) {
        (200, 1) => mint(setting),
        _ => Err(format!(
            "the CA does not sign again within {} s: /ready answers {ready}, {TOKEN_UP} is {up}",
            BACK_WITHIN.as_secs()
        )),
    }
}

/// A request to issue: an operator's SVID for a name of his.
fn mint(setting: &Setting) -> Result<(), String> {
    let folder = setting.scratch.join("minted").display().to_string();
    setting.playground.ca(&["x509", "mint", "--spiffe-id", &probe(setting), "--write", &folder]).map(drop)
}

fn probe(setting: &Setting) -> String {
    format!("spiffe://{}/operator/probe", setting.playground.trust_domain)
}
