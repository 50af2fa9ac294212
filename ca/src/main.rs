//! The Chancery certificate authority.

use std::process::ExitCode;

fn main() -> ExitCode {
    chancery_ca::cli::main()
}
