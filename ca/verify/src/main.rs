//! Verifies a copy of the record's log by itself, offline: no database, no CA, nothing but the files and a public key.
//!
//! Exit codes: 0 verified, 1 not, 2 usage.

use std::process::ExitCode;

fn main() -> ExitCode {
    chancery_verify::cli::main()
}
