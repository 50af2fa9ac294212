//! `loadgen`: load for any SPIRE-compatible server, over its published gRPC.
//!
//! Links no code of any server: what it sees is what a stranger's agent would see. The figures are explained in
//! docs/LOAD.md.

mod bout;
mod capacity;
mod cli;
mod dice;
mod echo;
mod fleet;
mod mode;
mod moment;
mod pace;
mod pretty;
mod proc;
mod report;
mod server;
mod site;
mod span;
mod stats;
mod stop;
mod target;

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Common, Mode},
    report::Reporter,
    site::Site,
    target::Target,
};

/// Exit code of a run that was stopped by a signal; what it printed holds for what was measured until then.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => return failed(&format!("cannot start threads: {problem}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &str) -> ExitCode {
    eprintln!("loadgen: {problem}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<ExitCode, String> {
    let common = &cli.common;
    match cli.mode {
        Mode::Crew => return fleet::obey().await.map(|()| ExitCode::SUCCESS),
        Mode::Echo(args) => return echo::serve(args).await.map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let stop = stop::on_signal()?;
    // As many descriptors as we may have, before the first of them is needed.
    capacity::Limits::of_this_machine();
    if cfg!(debug_assertions) {
        eprintln!("loadgen: a debug build; its own work shows in what it measures");
    }
    let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let outcome = match cli.mode {
        Mode::Workload(args) => mode::workload::run(&args, common, &run, &stop).await,
        mode => at_a_site(mode, common, &run, &stop).await,
    };
    match outcome {
        _ if stop.is_cancelled() => Ok(ExitCode::from(STOPPED)),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(problem) => Err(problem),
    }
}

/// Runs a mode that speaks to the server itself; what it makes there is gone afterwards, whatever happens.
async fn at_a_site(mode: Mode, common: &Common, run: &str, stop: &CancellationToken) -> Result<(), String> {
    let target = Target::of(common)?;
    let mut reporter = Reporter::new(run, mode.name(), common.output, &target.pids, stop.clone())?;
    let site = Site::open(common, &target, run, stop.clone()).await?;
    let outcome = measure(mode, common, &site, &mut reporter).await;
    site.close().await;
    outcome
}

async fn measure(mode: Mode, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    match mode {
        Mode::Agents(args) => mode::agents::run(&args, common, site, reporter).await,
        Mode::Crew | Mode::Echo(_) | Mode::Workload(_) => Ok(()),
        Mode::Issue(args) => mode::issue::run(args, common, site, reporter).await,
        Mode::Jwt(args) => mode::jwt::run(&args, common, site, reporter).await,
        Mode::Propagate(args) => mode::propagate::run(&args, common, site, reporter).await,
        Mode::Reconnect(args) => mode::reconnect::run(&args, common, site, reporter).await,
        Mode::Storm(args) => mode::storm::run(&args, common, site, reporter).await,
    }
}
