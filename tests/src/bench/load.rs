//! Runs of the load generator, and what they printed.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use crate::playground::{Authority, Binaries, Playground};

/// The lines of a run, by phase.
pub(super) struct Lines(BTreeMap<String, Value>);

/// A size, changed by its variable for a smaller machine or a shorter look.
pub(super) fn size(variable: &str, default: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable}={text}: not a number")),
        Err(_) => Ok(default),
    }
}

/// Runs a mode against `server`'s mTLS door; tokens and entries go through `admin`'s socket, in the same database.
///
/// # Errors
/// The command line and the end of what it said.
pub(super) fn load(server: &Playground, admin: &Playground, args: &[&str]) -> Result<Lines, String> {
    load_on(&server.bin, &server.authority, &admin.authority, args)
}

/// As [`load`], against one of several servers.
///
/// # Errors
/// As [`load`].
pub(super) fn load_on(bin: &Binaries, server: &Authority, admin: &Authority, args: &[&str]) -> Result<Lines, String> {
    let program = bin.path("loadgen");
    let (door, pid) = (server.grpc.to_string(), server.pid().to_string());
    let mut command = Command::new(&program);
    command.args(["--server", &door, "--pid", &pid, "--admin-socket"]).arg(&admin.admin_socket);
    eprintln!("  loadgen {}", args.join(" "));
    let out = command.args(args).output().map_err(|e| format!("{}: {e}", program.display()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("loadgen {}: {}", args.join(" "), said.trim_end()));
    }
    said.lines().filter(|line| line.contains("of ")).for_each(|line| eprintln!("  {line}"));
    let lines = String::from_utf8_lossy(&out.stdout);
    let parsed = lines.lines().map(|line| {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("loadgen printed {line}: {e}"))?;
        Ok((value["phase"].as_str().unwrap_or_default().to_owned(), value))
    });
    parsed.collect::<Result<_, String>>().map(Lines)
}

impl Lines {
    /// A number of a phase, by the names of its fields from the outside in.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn number(&self, phase: &str, fields: &[&str]) -> Result<f64, String> {
        let line = self.0.get(phase).ok_or_else(|| format!("loadgen told nothing of {phase}"))?;
        let value = fields.iter().fold(line, |value, field| match field.parse::<usize>() {
            Ok(place) => &value[place],
            Err(_) => &value[*field],
        });
        value.as_f64().ok_or_else(|| format!("{phase} has no {}: {line}", fields.join(".")))
    }

    /// Milliseconds of something timed.
    ///
    /// # Errors
    /// It was not.
    pub(super) fn ms(&self, phase: &str, name: &str, quantile: &str) -> Result<f64, String> {
        Ok(self.number(phase, &["latency_us", name, quantile])? / 1000.0)
    }
}
