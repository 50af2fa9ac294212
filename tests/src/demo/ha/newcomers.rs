use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::playground::Playground;

/// On each node one process after the other: it asks for its identity once, and ends.
pub struct Newcomers {
    got: Vec<Arc<(Mutex<Got>, Condvar)>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What the processes of one node got.
#[derive(Clone, Default)]
pub struct Got {
    /// SPIFFE IDs, in order.
    pub ids: Vec<String>,
    /// The words of those that got none.
    pub failures: Vec<String>,
    /// The longest that one had to wait.
    pub longest: Duration,
}

impl Newcomers {
    /// Nobody comes yet.
    pub(super) fn on(playground: &Playground) -> Self {
        let got = playground.machines.iter().map(|_| Arc::default()).collect();
        Self { got, stop: Arc::default(), threads: Vec::new() }
    }

    /// From now on they come.
    pub(super) fn begin(&mut self, playground: &Playground) {
        let program = playground.bin.path("workload");
        for (machine, got) in playground.machines.iter().zip(&self.got) {
            let endpoint = format!("unix://{}", machine.workload_socket.display());
            let (program, got, stop) = (program.clone(), Arc::clone(got), Arc::clone(&self.stop));
            self.threads.push(std::thread::spawn(move || come_and_go(&program, &endpoint, &got, &stop)));
        }
    }

    /// How many identities each node's have got.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.got.iter().map(|got| lock(got).ids.len()).collect()
    }

    /// Waits until each node's have got `more` than `before`, all of them.
    ///
    /// # Errors
    /// One got none, or they did not in time.
    pub(super) fn wait_for(&self, before: &[usize], more: usize, within: Duration) -> Result<(), String> {
        let end = Instant::now() + within;
        for (node, (got, before)) in self.got.iter().zip(before).enumerate() {
            let mut seen = lock(got);
            while seen.ids.len() < before + more {
                if let Some(words) = seen.failures.first() {
                    return Err(format!("a new process on node {node} got no identity: {words}"));
                }
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let seen = seen.ids.len() - before;
                    return Err(format!("{seen} of {more} new processes on node {node} got an identity in time"));
                }
                seen = got.1.wait_timeout(seen, left).expect("no holder panics").0;
            }
        }
        Ok(())
    }

    /// Lets nobody come any more; what each node's got.
    pub(super) fn end(&mut self) -> Vec<Got> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.got.iter().map(|got| lock(got).clone()).collect()
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(got: &(Mutex<Got>, Condvar)) -> MutexGuard<'_, Got> {
    got.0.lock().expect("no holder panics")
}

fn come_and_go(program: &PathBuf, endpoint: &str, got: &(Mutex<Got>, Condvar), stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let mut command = Command::new(program);
        command.arg("once").env("SPIFFE_ENDPOINT_SOCKET", endpoint).stdin(Stdio::null());
        let began = Instant::now();
        let answer = match command.output() {
            Ok(out) => identity(&String::from_utf8_lossy(&out.stdout)),
            Err(error) => Err(error.to_string()),
        };
        let mut seen = lock(got);
        seen.longest = seen.longest.max(began.elapsed());
        match answer {
            Ok(id) => seen.ids.push(id),
            Err(words) => seen.failures.push(words),
        }
        drop(seen);
        got.1.notify_all();
    }
}

fn identity(line: &str) -> Result<String, String> {
    let said: Value = serde_json::from_str(line).map_err(|e| format!("'{line}': {e}"))?;
    match said["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => Err(said["error"].as_str().unwrap_or(line).to_owned()),
    }
}
