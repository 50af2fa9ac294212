//! Demo agents as child processes: what they said, and what they are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use super::protocol::{Asked, Birth, Counts, End, HungUp, PeerAddress, Said, Told};

/// What one agent has said so far.
#[derive(Clone, Default)]
pub struct Seen {
    /// SPIFFE ID of the instance.
    pub id: String,
    /// Where it answers.
    pub address: Option<SocketAddr>,
    /// Serial numbers in order.
    pub serials: Vec<String>,
    /// Hashes of its keys.
    pub keys: BTreeSet<String>,
    /// End of the newest SVID, Unix seconds.
    pub not_after: i64,
    /// Counters by peer.
    pub peers: BTreeMap<String, Counts>,
    /// The attestor took the identity away.
    pub lost: bool,
    /// Key and SVID were exported.
    pub exported: bool,
    /// Peers it calls over a connection that is kept.
    pub held: BTreeSet<String>,
    /// Connections its SDK closed.
    pub hung_up: Vec<HungUp>,
    /// What processes that were made of it got.
    pub asked: Vec<Asked>,
}

impl Seen {
    /// How it hung up on a peer, at one end.
    pub fn hung_up_on(&self, id: &str, end: End) -> Option<&HungUp> {
        self.hung_up.iter().find(|one| one.id == id && one.end == end)
    }

    /// What the process got that was made of it in this way.
    pub fn asked_by(&self, by: Birth) -> Option<&Asked> {
        self.asked.iter().find(|one| one.by == by)
    }
}

/// A running demo agent.
pub struct Agent {
    /// Index of its node.
    pub node: usize,
    /// It was revoked on purpose: its calls are not judged any more.
    pub given_up: bool,
    child: Child,
    told: ChildStdin,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Agent {
    /// Starts an agent on a node.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, node: usize, socket: &Path) -> Result<Self, String> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let (told, out) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Ok(said) = serde_json::from_str(&line) else { continue };
                note(&mut shared.0.lock().expect("no holder panics"), said);
                shared.1.notify_all();
            }
        });
        Ok(Self { node, given_up: false, child, told, seen })
    }

    /// What it has said so far.
    pub fn seen(&self) -> Seen {
        self.seen.0.lock().expect("no holder panics").clone()
    }

    /// Waits until what it said satisfies `enough`.
    ///
    /// # Errors
    /// `what` did not happen in time.
    pub fn wait(&self, within: Duration, what: &str, enough: impl Fn(&Seen) -> bool) -> Result<Seen, String> {
        let end = Instant::now() + within;
        let mut seen = self.seen.0.lock().expect("no holder panics");
        while !enough(&seen) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "agent {} on node {}: {what} within {} s did not happen",
                    seen.id,
                    self.node,
                    within.as_secs()
                ));
            }
            seen = self.seen.1.wait_timeout(seen, left).expect("no holder panics").0;
        }
        Ok(seen.clone())
    }

    /// Its answered calls, as last told.
    pub fn calls(&self) -> u64 {
        self.seen().peers.values().map(|counts| counts.calls).sum()
    }

    /// Tells the agent something.
    ///
    /// # Errors
    /// The agent has ended.
    pub fn tell(&mut self, told: &Told) -> Result<(), String> {
        let line = serde_json::to_string(told).map_err(|e| e.to_string())?;
        writeln!(self.told, "{line}").map_err(|e| format!("agent on node {}: {e}", self.node))
    }
}

impl Agent {
    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn note(seen: &mut Seen, said: Said) {
    match said {
        Said::Asked(asked) => seen.asked.push(asked),
        Said::Exported => seen.exported = true,
        Said::Held { id } => drop(seen.held.insert(id)),
        Said::HungUp(how) => seen.hung_up.push(how),
        Said::Identity { id, address, serial, key, not_after } => {
            (seen.id, seen.address, seen.not_after, seen.lost) = (id, Some(address), not_after, false);
            if seen.serials.last() != Some(&serial) {
                seen.serials.push(serial);
            }
            seen.keys.insert(key);
        }
        Said::Lost => seen.lost = true,
        Said::Stats { peers } => seen.peers = peers,
    }
}

/// All agents of the demo.
pub struct Agents(pub Vec<Agent>);

/// 25 calls a second to each peer: more than the 20 the demo promises.
pub(super) const CALL_EVERY_MS: u64 = 40;
/// How long the first identity may take.
const FIRST_IDENTITY: Duration = Duration::from_secs(15);

impl Agents {
    /// Waits for every identity, then tells every agent all the others.
    ///
    /// # Errors
    /// An agent got no identity.
    pub fn introduce(&mut self) -> Result<(), String> {
        self.introduce_at(CALL_EVERY_MS)
    }

    /// [`introduce`](Self::introduce) with another pace: milliseconds from one call to the next.
    ///
    /// # Errors
    /// As there.
    pub fn introduce_at(&mut self, call_every_ms: u64) -> Result<(), String> {
        let mut all = Vec::new();
        for agent in &self.0 {
            let seen = agent.wait(FIRST_IDENTITY, "the first identity", |s| s.address.is_some())?;
            all.push(PeerAddress { id: seen.id, address: seen.address.ok_or("no address")? });
        }
        for (agent, own) in self.0.iter_mut().zip(&all) {
            let peers = all.iter().filter(|p| p.id != own.id).cloned().collect();
            agent.tell(&Told::Peers { peers, call_every_ms })?;
        }
        Ok(())
    }

    /// Waits until every agent has rotated `count` times, with a new serial and a new key each time.
    ///
    /// # Errors
    /// An agent did not rotate in time, or lost its identity.
    pub fn wait_for_rotations(&self, count: usize, within: Duration) -> Result<(), String> {
        self.wait_for_successors(&vec![count; self.0.len()], within, &format!("rotation {count}"))
    }

    /// How many serials each agent has had.
    pub fn serials(&self) -> Vec<usize> {
        self.0.iter().map(|agent| agent.seen().serials.len()).collect()
    }

    /// Waits until every agent has had more serials, and as many keys, than it had `before`.
    ///
    /// # Errors
    /// As [`wait_for_rotations`](Self::wait_for_rotations); `what` did not happen.
    pub fn wait_for_successors(&self, before: &[usize], within: Duration, what: &str) -> Result<(), String> {
        let end = Instant::now() + within;
        for (agent, before) in self.0.iter().zip(before) {
            let left = end.saturating_duration_since(Instant::now());
            let more = |s: &Seen| s.serials.len() > *before && s.keys.len() > *before;
            let seen = agent.wait(left, what, |s| s.lost || more(s))?;
            if seen.lost {
                return Err(format!("agent {} lost its identity", seen.id));
            }
        }
        Ok(())
    }

    /// Answered calls of all agents, as last told.
    pub fn calls(&self) -> u64 {
        self.0.iter().map(Agent::calls).sum()
    }

    /// Every call of every agent must have been answered, but for those of agents that were given up.
    ///
    /// # Errors
    /// The pair, the number of failures and the last one.
    pub fn check_calls(&self) -> Result<(), String> {
        for agent in self.0.iter().filter(|agent| !agent.given_up) {
            let seen = agent.seen();
            for (peer, counts) in &seen.peers {
                if counts.failures > 0 {
                    return Err(format!(
                        "{} -> {peer}: {} failed, last: {}",
                        seen.id, counts.failures, counts.last_failure
                    ));
                }
            }
        }
        Ok(())
    }
}
