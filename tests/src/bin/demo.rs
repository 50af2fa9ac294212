//! The demo: exits 0 only if every act went as told.

use std::{process::ExitCode, time::Instant};

use chancery_tests::demo::{Spoil, run};
use clap::Parser;

/// Two TPM nodes, four agents that talk all the time, five attacks. Ends by itself.
#[derive(Parser)]
struct Cli {
    /// Spoils the demo itself, never the product, so that a test can see it fail.
    #[arg(long, value_enum, hide = true)]
    spoil: Option<Spoil>,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let verdict = run(Cli::parse().spoil);
    let secs = begun.elapsed().as_secs();
    match verdict {
        Ok(()) => {
            println!("\nevery act went as told, in {secs} s");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("\nNOT as told, after {secs} s: {problem}");
            ExitCode::FAILURE
        }
    }
}
