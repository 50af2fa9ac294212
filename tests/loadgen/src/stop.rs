//! Ctrl-C and SIGTERM: a clean stop, with what was measured so far.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGINT or SIGTERM; the second one ends the program at once.
///
/// # Errors
/// The signals cannot be caught.
pub fn on_signal() -> Result<CancellationToken, String> {
    let say = |e: std::io::Error| format!("cannot catch signals: {e}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(say)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(say)?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            eprintln!("loadgen: stopping; what was measured follows, then entries and nodes are removed");
            stop.cancel();
        }
    });
    Ok(token)
}
