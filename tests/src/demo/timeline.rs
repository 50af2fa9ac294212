use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::playground::Playground;

/// An event of the CA, as `audit list` prints it.
#[derive(Clone, Debug)]
pub struct TimelineEvent {
    /// Its number in the log.
    pub number: i64,
    /// For example `node.attested`.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Facts of the kind.
    pub fields: Value,
}

/// Follows the CA's events, prints them, and lets acts wait for one.
pub struct Timeline {
    follower: Child,
    seen: Arc<(Mutex<Vec<TimelineEvent>>, Condvar)>,
}

impl Timeline {
    /// Starts to follow.
    ///
    /// # Errors
    /// The CLI cannot be started.
    pub fn follow(playground: &Playground) -> Result<Self, String> {
        let mut follower = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(playground.bin.path("chancery-ca"))
            .args(["audit", "list", "--follow", "--socket"])
            .arg(&playground.authority.admin_socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("audit list: {e}"))?;
        let out = follower.stdout.take().ok_or("audit list: no output")?;
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Some(event) = parse(&line) else { continue };
                print_event(&event);
                shared.0.lock().expect("no holder panics").push(event);
                shared.1.notify_all();
            }
        });
        Ok(Self { follower, seen })
    }

    /// Number of the newest event seen; -1 before the first.
    pub fn newest(&self) -> i64 {
        self.seen.0.lock().expect("no holder panics").last().map_or(-1, |e| e.number)
    }

    /// Every event seen so far.
    pub fn all(&self) -> Vec<TimelineEvent> {
        self.seen.0.lock().expect("no holder panics").clone()
    }

    /// Waits for an event numbered above `after` that `wanted` accepts.
    ///
    /// # Errors
    /// `what` did not happen in time.
    pub fn wait_for(
        &self,
        after: i64,
        within: Duration,
        what: &str,
        wanted: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<TimelineEvent, String> {
        let end = Instant::now() + within;
        let mut seen = self.seen.0.lock().expect("no holder panics");
        loop {
            if let Some(event) = seen.iter().find(|e| e.number > after && wanted(e)) {
                return Ok(event.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{what}: no such event within {} s", within.as_secs()));
            }
            seen = self.seen.1.wait_timeout(seen, left).expect("no holder panics").0;
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        let _ = self.follower.kill();
        let _ = self.follower.wait();
    }
}

fn parse(line: &str) -> Option<TimelineEvent> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some(TimelineEvent {
        number: value["number"].as_i64()?,
        kind: value["kind"].as_str()?.into(),
        subject: value["subject"].as_str()?.into(),
        fields: value["fields"].clone(),
    })
}

fn print_event(event: &TimelineEvent) {
    let fields: Vec<String> = event
        .fields
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.as_str() != "steps" && !value.is_object() && value.to_string().len() <= 80)
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    println!("#{:<5} {:<20} {}  {}", event.number, event.kind, event.subject, fields.join(" "));
    let steps = event.fields["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let passed = |step: &Value| step["passed"].as_bool() == Some(true);
    // A first attestation is told step by step; a renewal that passed everything is one line.
    if event.fields["first"] == false && steps.iter().all(passed) {
        println!("#{:<5}   ok   all {} steps again, with fresh evidence", event.number, steps.len());
        return;
    }
    for step in steps {
        let verdict = if passed(step) { "ok  " } else { "FAIL" };
        let (name, detail) = (step["name"].as_str().unwrap_or("?"), step["detail"].as_str().unwrap_or(""));
        println!("#{:<5}   {verdict} {name:<24} {detail}", event.number);
    }
}
