//! `make bench`: a table of targets, figures and verdicts. Fails only when something broke.

use std::{os::unix::process::CommandExt, process::Command, process::ExitCode};

use chancery_tests::bench::{Figure, run};

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("bench: a debug build; figures of `make bench` are of a release build");
    }
    // libtss2 writes to standard error unless told before it is loaded.
    if std::env::var_os("TSS2_LOG").is_none() {
        let Ok(exe) = std::env::current_exe() else { return ExitCode::FAILURE };
        eprintln!("bench: {}", Command::new(exe).args(std::env::args_os().skip(1)).env("TSS2_LOG", "all+none").exec());
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(figures) => {
            println!("{}", Figure::head());
            figures.iter().for_each(|figure| println!("{figure}"));
            println!("\nmedians of five rounds of this run; MB are millions of bytes");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
