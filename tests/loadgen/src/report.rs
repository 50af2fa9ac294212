//! Phases and their lines.

use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Output,
    pretty,
    proc::{self, Look, Used},
    stats::Tally,
};

/// Prints a line for each phase of one run.
pub struct Reporter {
    run: String,
    mode: &'static str,
    output: Output,
    /// Processes of the server.
    pids: Vec<u32>,
    stop: CancellationToken,
    headed: bool,
}

/// A phase under way.
pub struct Phase {
    name: &'static str,
    begun: Instant,
    at: SystemTime,
    /// Of the server's processes, or the echo's.
    server: Vec<(u32, Look)>,
    client: Option<Look>,
    /// What growth of memory is told by: a word and how many there are of it.
    per: Option<(&'static str, u64)>,
}

/// A phase that ended: what ratios are made of.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was counted.
    pub tally: Tally,
    /// Processor seconds of the server, where they are known.
    pub server_cpu: Option<f64>,
}

impl Reporter {
    /// A reporter; every process is looked at once, so that a wrong one is told before anything runs.
    ///
    /// # Errors
    /// A process that cannot be seen.
    pub fn new(
        run: &str,
        mode: &'static str,
        output: Output,
        pids: &[u32],
        stop: CancellationToken,
    ) -> Result<Self, String> {
        pids.iter().try_for_each(|pid| proc::look(*pid).map(drop))?;
        Ok(Self { run: run.into(), mode, output, pids: pids.to_vec(), stop, headed: false })
    }

    /// Begins a phase of the server.
    pub fn begin(&self, name: &'static str) -> Phase {
        Phase::begin(name, &self.pids)
    }

    /// Ends a phase and prints its line; `more` are further fields.
    pub fn end(&mut self, phase: &Phase, tally: Tally, more: Value) -> Done {
        let seconds = phase.begun.elapsed().as_secs_f64();
        let server: Vec<Used> = phase.server.iter().filter_map(|(pid, look)| proc::used(*pid, look).ok()).collect();
        let client = phase.client.as_ref().and_then(|look| proc::used(std::process::id(), look).ok());
        // Of all of them or of none: a process that ended takes what it used with it.
        let all_there = !server.is_empty() && server.len() == phase.server.len();
        let server_cpu = all_there.then(|| server.iter().map(Used::cpu).sum::<f64>());
        let mut line = self.line(phase, seconds);
        fill(&mut line, &tally, seconds);
        if let Some(cpu) = server_cpu {
            let each = |count: u64| (count > 0).then(|| digits(cpu * 1e6 / count as f64, 1));
            line.insert("server_cpu_us_per_call".into(), json!(each(tally.calls)));
            line.insert("server_cpu_us_per_item".into(), json!(each(tally.items)));
            line.insert("server_cpu_share".into(), json!(digits(cpu / seconds, 4)));
        }
        if let Some((thing, count)) = phase.per.filter(|(_, count)| *count > 0 && all_there) {
            let growth: i64 = server.iter().map(|used| used.resident_growth).sum();
            line.insert(format!("resident_growth_per_{thing}"), json!(digits(growth as f64 / count as f64, 0)));
        }
        if server.len() < phase.server.len() {
            line.insert("server_gone".into(), json!(true));
        }
        line.insert("server".into(), json!(server));
        line.insert("client_cpu".into(), json!(client.as_ref().map(|used| digits(used.cpu(), 3))));
        line.insert("interrupted".into(), json!(self.stop.is_cancelled()));
        self.print(line, more);
        Done { tally, server_cpu }
    }

    /// Prints the last line of a run: what was measured against the echo of the same run.
    pub fn summary(&mut self, name: &str, measured: &Done, echo: Option<&Done>, more: Value) {
        let mut line = Map::new();
        line.insert("run".into(), json!(self.run));
        line.insert("mode".into(), json!(self.mode));
        line.insert("phase".into(), json!("summary"));
        if let Some(echo) = echo {
            line.insert("to_echo".into(), ratios(name, measured, echo));
        }
        line.insert("interrupted".into(), json!(self.stop.is_cancelled()));
        self.print(line, more);
    }

    fn line(&self, phase: &Phase, seconds: f64) -> Map<String, Value> {
        let at = phase.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let head = json!({
            "run": self.run, "mode": self.mode, "phase": phase.name, "at": at, "seconds": digits(seconds, 3),
        });
        let Value::Object(line) = head else { return Map::new() };
        line
    }

    fn print(&mut self, mut line: Map<String, Value>, more: Value) {
        if let Value::Object(more) = more {
            line.extend(more);
        }
        match self.output {
            Output::Json => println!("{}", Value::Object(line)),
            Output::Pretty => {
                if !std::mem::replace(&mut self.headed, true) {
                    println!("{}", pretty::head());
                }
                print!("{}", pretty::rows(&line));
            }
        }
    }
}

impl Phase {
    /// Begins a phase in which the work is done by the processes `pids`.
    pub fn begin(name: &'static str, pids: &[u32]) -> Self {
        let server = pids.iter().filter_map(|pid| proc::look(*pid).ok().map(|look| (*pid, look))).collect();
        let client = proc::look(std::process::id()).ok();
        Self { name, at: SystemTime::now(), begun: Instant::now(), server, client, per: None }
    }

    /// Tells the growth of the server's memory for each of `count` things too.
    #[must_use]
    pub fn per(self, thing: &'static str, count: usize) -> Self {
        Self { per: Some((thing, count as u64)), ..self }
    }
}

fn fill(line: &mut Map<String, Value>, tally: &Tally, seconds: f64) {
    line.insert("calls".into(), json!(tally.calls));
    line.insert("errors".into(), json!(tally.errors));
    line.insert("items".into(), json!(tally.items));
    line.insert("calls_per_second".into(), json!(digits(tally.calls as f64 / seconds, 1)));
    line.insert("items_per_second".into(), json!(digits(tally.items as f64 / seconds, 1)));
    let latencies: Map<_, _> = tally.latencies.iter().map(|(name, latency)| (name.clone(), latency.shape())).collect();
    line.insert("latency_us".into(), Value::Object(latencies));
    for (name, count) in &tally.counts {
        line.insert(name.clone(), json!(count));
    }
    if let Some(spread) = tally.seconds.spread() {
        line.insert("by_second".into(), json!(tally.seconds.all()));
        let peak_to_mean = digits(spread.peak as f64 / spread.mean, 2);
        line.insert("peak_per_second".into(), json!(spread.peak));
        line.insert("mean_per_second".into(), json!(digits(spread.mean, 1)));
        line.insert("peak_to_mean".into(), json!(peak_to_mean));
    }
}

/// Quotients of latencies and processor time; `null` where one of the two measured nothing.
fn ratios(name: &str, measured: &Done, echo: &Done) -> Value {
    let latency = |quantile: f64| {
        let of = |done: &Done, name: &str| done.tally.latencies.get(name).map(|l| l.micros(quantile));
        let (a, b) = (of(measured, name)?, of(echo, crate::echo::NAME)?);
        (b > 0.0).then(|| digits(a / b, 2))
    };
    let each = |done: &Done| done.server_cpu.filter(|_| done.tally.calls > 0).map(|cpu| cpu / done.tally.calls as f64);
    let cpu = each(measured).zip(each(echo)).filter(|(_, b)| *b > 0.0).map(|(a, b)| digits(a / b, 2));
    json!({ "p50": latency(0.5), "p99": latency(0.99), "server_cpu_per_call": cpu })
}

/// So many digits after the point.
pub fn digits(value: f64, count: i32) -> f64 {
    let shift = 10_f64.powi(count);
    (value * shift).round() / shift
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn done(micros: u64, cpu: Option<f64>, name: &str) -> Done {
        let mut tally = Tally::default();
        (0..10).for_each(|_| tally.call(name, Duration::from_micros(micros), Ok(1)));
        Done { tally, server_cpu: cpu }
    }

    #[test]
    fn a_ratio_of_something_that_was_not_measured_is_null() {
        let echo = done(100, Some(1.0), crate::echo::NAME);
        let ratio = ratios("issue", &done(500, Some(4.0), "issue"), &echo);
        assert_eq!(ratio["server_cpu_per_call"], 4.0);
        assert!((ratio["p50"].as_f64().unwrap() - 5.0).abs() < 0.02, "{ratio}");
        let unknown = ratios("issue", &done(500, None, "issue"), &echo);
        assert_eq!((&unknown["server_cpu_per_call"], unknown["p99"].is_null()), (&Value::Null, false));
        assert!(ratios("other", &done(500, None, "issue"), &echo)["p50"].is_null());
    }

    #[test]
    fn a_server_that_ended_has_no_processor_time_and_not_none_used() {
        let mut server = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pids = [server.id(), std::process::id()];
        let mut reporter = Reporter::new("run", "test", Output::Json, &pids, CancellationToken::new()).unwrap();
        let alive = reporter.begin("alive");
        assert!(reporter.end(&alive, Tally::default(), json!({})).server_cpu.is_some());
        let phase = reporter.begin("gone");
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(reporter.end(&phase, Tally::default(), json!({})).server_cpu, None);
    }
}
