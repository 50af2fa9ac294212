//! opencryptoki's software token: RSA only in Debian 12, with a daemon and a configuration for the whole system.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{PIN, SO_PIN, Site, Skip, first_file, folder};

/// Set by `scripts/test-hsm` once the system is set up for it; never done behind anybody's back.
const ALLOWED: &str = "CHANCERY_OPENCRYPTOKI";

/// The token of slot 0, made anew.
///
/// # Errors
/// Why opencryptoki cannot be used here.
pub fn opencryptoki(label: &str) -> Result<Site, Skip> {
    if std::env::var_os(ALLOWED).is_none() {
        return Err(format!("it changes the whole system: `make test-hsm` sets {ALLOWED} where it may"));
    }
    let module: PathBuf = first_file(
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so",
            "/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so",
        ],
        "opencryptoki",
    )?;
    config(&["-I", "-c", "0"], &format!("{SO_PIN}\n{label}\n"))?;
    const NEXT_SO_PIN: &str = "11112222";
    config(&["-P", "-c", "0", "-S", SO_PIN, "-n", NEXT_SO_PIN], "")?;
    config(&["-u", "-c", "0", "-S", NEXT_SO_PIN, "-n", PIN], "")?;
    // Its clock cannot be read, and with it nothing else of the token's information.
    Site::new(folder()?, module, "pkcs11:slot-id=0".into())
}

fn config(arguments: &[&str], input: &str) -> Result<(), Skip> {
    let mut child = Command::new("pkcsconf")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("pkcsconf: {e} (install opencryptoki)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| e.to_string())?;
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("pkcsconf {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim()))
}
