//! Clean shutdown: a soft word first, a hard one after a deadline.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// How long handlers may finish after the soft word.
pub const GRACE: Duration = Duration::from_secs(5);

/// The two tokens every task looks at, and the count of reload requests.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Stop taking work; finish what is open.
    pub soft: CancellationToken,
    /// Stop now.
    pub hard: CancellationToken,
    reloads: watch::Receiver<u64>,
}

impl Shutdown {
    /// Tokens that only the caller cancels; no signal is listened to. For tests and embedding.
    pub fn manual() -> Self {
        let (_, reloads) = watch::channel(0);
        Self { soft: CancellationToken::new(), hard: CancellationToken::new(), reloads }
    }

    /// Listens to SIGTERM and SIGINT (stop; a second one stops at once) and SIGHUP (reload).
    ///
    /// # Errors
    /// Whatever the kernel says when a handler cannot be installed.
    pub fn from_signals() -> io::Result<Self> {
        let (mut term, mut int, mut hup) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        let (reload, reloads) = watch::channel(0);
        let this = Self { soft: CancellationToken::new(), hard: CancellationToken::new(), reloads };
        let (soft, hard) = (this.soft.clone(), this.hard.clone());
        tokio::spawn(async move {
            loop {
                let stop = tokio::select! {
                    _ = term.recv() => true,
                    _ = int.recv() => true,
                    _ = hup.recv() => false,
                };
                match stop {
                    false => reload.send_modify(|n| *n += 1),
                    true if soft.is_cancelled() => hard.cancel(),
                    true => begin(&soft, &hard),
                }
            }
        });
        Ok(this)
    }

    /// Says the soft word; the hard one follows after [`GRACE`].
    pub fn begin(&self) {
        begin(&self.soft, &self.hard);
    }

    /// Changes whenever the operator asks for a reload.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.clone()
    }
}

fn begin(soft: &CancellationToken, hard: &CancellationToken) {
    soft.cancel();
    let hard = hard.clone();
    tokio::spawn(async move {
        tokio::time::sleep(GRACE).await;
        hard.cancel();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_hard_word_follows_the_soft_one_after_the_grace() {
        let shutdown = Shutdown::manual();
        shutdown.begin();
        assert!(shutdown.soft.is_cancelled() && !shutdown.hard.is_cancelled());
        shutdown.hard.cancelled().await;
    }
}
