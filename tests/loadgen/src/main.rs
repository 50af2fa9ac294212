//! `loadgen`: load for any SPIRE-compatible server, over its published gRPC.
//!
//! Links no code of any server: what it sees is what a stranger's agent would see. The figures are explained in
//! docs/LOAD.md.

mod bout;
mod cli;
mod echo;
mod mode;
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
    if let Mode::Echo(args) = cli.mode {
        return echo::serve(args).await.map(|()| ExitCode::SUCCESS);
    }
    let stop = stop::on_signal()?;
    let target = Target::of(&cli.common)?;
    if cfg!(debug_assertions) {
        eprintln!("loadgen: a debug build; its own work shows in what it measures");
    }
    let site = Site::open(&cli.common, &target, stop.clone()).await?;
    let mut reporter = Reporter::new(&site.run, cli.mode.name(), cli.common.output, &target.pids, stop.clone())?;
    let outcome = measure(cli.mode, &cli.common, &site, &mut reporter).await;
    site.close().await;
    match outcome {
        _ if stop.is_cancelled() => Ok(ExitCode::from(STOPPED)),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(problem) => Err(problem),
    }
}

async fn measure(mode: Mode, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    match mode {
        Mode::Echo(_) => Ok(()),
        Mode::Issue(args) => mode::issue::run(args, common, site, reporter).await,
        Mode::Jwt(args) => mode::jwt::run(&args, common, site, reporter).await,
    }
}
