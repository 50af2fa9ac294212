//! What a process does for itself before it touches a key.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Makes the process non-dumpable: no core file with keys, no ptrace by others of the same uid.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_non_dumpable() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
