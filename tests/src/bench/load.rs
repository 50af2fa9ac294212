//! Runs of the load generator, and what they printed; and the way to a server's own socket.

use std::{collections::BTreeMap, path::Path, process::Command};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

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

/// A channel to the operators' socket of a CA.
///
/// # Errors
/// Nobody is there.
pub(super) async fn channel(admin_socket: &Path) -> Result<Channel, String> {
    let path = admin_socket.to_path_buf();
    let dial = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://bench").connect_with_connector(dial).await.map_err(|e| e.to_string())
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
