//! `make bench`: a table of targets, figures and verdicts. Fails only when something broke. `bench token` measures one,
//! `bench --help` names all.

use std::process::{Command, ExitCode};

use chancery_tests::bench::{Figure, run, usage};

/// Set in the process that measures.
const INSIDE: &str = "CHANCERY_BENCH";

fn main() -> ExitCode {
    if std::env::args().skip(1).any(|argument| argument == "--help") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: a debug build; figures of `make bench` are of a release build");
    }
    if std::env::var_os(INSIDE).is_none() {
        return inside();
    }
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
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

/// Runs this program again with what libraries read from the environment: libtss2 writes to standard error unless told
/// before it is loaded, and SoftHSM2 has to find its token.
fn inside() -> ExitCode {
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let mut again = Command::new(program);
    again.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    if std::env::var_os("TSS2_LOG").is_none() {
        again.env("TSS2_LOG", "all+none");
    }
    let token = chancery_hsm::softhsm2("bench");
    match &token {
        Ok(site) => drop(chancery_hsm::equip(&mut again, site)),
        Err(reason) => eprintln!("bench: no token: {reason}"),
    }
    // The token lives as long as this process, which waits.
    match again.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
