//! Brings a whole Chancery up on this machine and keeps it up until told to stop.

use std::{process::ExitCode, time::Duration};

use chancery_tests::playground::{Options, Playground};
use clap::Parser;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};

/// A whole Chancery on one machine: a CA and nodes with software TPMs, of real processes.
///
/// Writes DIR/playground.json and prints `ready`. Stops everything on SIGTERM, Ctrl-C or when its parent dies.
#[derive(Parser)]
#[command(after_help = "Example:\n  playground --dir /tmp/pg --nodes 2 --attest tpm\n  \
    jq -r '.nodes[0].workload_socket' /tmp/pg/playground.json")]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let parent = getppid();
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    if getppid() != parent {
        return ExitCode::FAILURE;
    }
    match up(&cli.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("playground: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Everything runs on the main thread: the kernel ties the children's death signal to the thread that spawned them.
fn up(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    // Handlers first, so that a signal during the start is not lost.
    let (mut term, mut int) = runtime.block_on(async {
        Ok::<_, String>((
            signal(SignalKind::terminate()).map_err(|e| e.to_string())?,
            signal(SignalKind::interrupt()).map_err(|e| e.to_string())?,
        ))
    })?;
    let mut playground = Playground::start(options)?;
    println!("ready");
    runtime.block_on(async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                _ = tick.tick() => playground.tend()?,
            }
        }
    })
}
