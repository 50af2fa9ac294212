//! Places where the kill -9 test stops the process between two states of the journal.

/// In a debug build, stops for ever where `CHANCERY_STOP_AT` names this point, after saying so in `CHANCERY_STOP_FILE`.
/// Nothing in a release build.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    if std::env::var("CHANCERY_STOP_AT").is_ok_and(|at| at == name) {
        if let Some(file) = std::env::var_os("CHANCERY_STOP_FILE") {
            // The test waits for the file; where it cannot be made the test says so by its deadline.
            let _ = std::fs::write(file, name);
        }
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn point(_: &str) {}
