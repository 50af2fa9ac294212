use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Call, Ledger};
use crate::stats::Tally;

/// Rest of a caller after a failure: a server that refuses at once is not made to refuse a million times.
const ERROR_REST: Duration = Duration::from_millis(20);

/// `in_flight` callers, each of which waits for its answer before it asks again.
///
/// A stalled server holds its callers back, so the latencies of a closed loop leave out the calls that nobody made
/// meanwhile: they say what those waited who did call. The open loop says what a caller must expect.
pub(super) async fn run<C: Call>(
    call: &Arc<C>,
    in_flight: usize,
    lasting: Duration,
    stop: &CancellationToken,
) -> Tally {
    let ledger = Arc::new(Ledger::default());
    let next = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + lasting;
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (call, ledger, next, stop) = (Arc::clone(call), Arc::clone(&ledger), Arc::clone(&next), stop.clone());
        callers.spawn(async move {
            while Instant::now() < end && !stop.is_cancelled() {
                let begun = Instant::now();
                let outcome = call.call(next.fetch_add(1, Ordering::Relaxed)).await;
                let failed = outcome.is_err();
                ledger.open().call(call.name(), begun.elapsed(), outcome);
                if failed {
                    tokio::time::sleep(ERROR_REST).await;
                }
            }
        });
    }
    while callers.join_next().await.is_some() {}
    ledger.take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Outcome;

    struct Counts {
        now: AtomicU64,
        most: AtomicU64,
    }

    impl Call for Counts {
        fn name(&self) -> &'static str {
            "counted"
        }

        async fn call(&self, number: u64) -> Outcome {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            if number.is_multiple_of(10) { Err("tenth".into()) } else { Ok(2) }
        }
    }

    #[tokio::test]
    async fn as_many_calls_as_asked_are_under_way_and_each_is_counted_once() {
        let call = Arc::new(Counts { now: AtomicU64::new(0), most: AtomicU64::new(0) });
        let tally = run(&call, 7, Duration::from_millis(100), &CancellationToken::new()).await;
        assert_eq!(call.most.load(Ordering::SeqCst), 7);
        assert!(tally.calls > 0 && tally.errors["tenth"] > 0);
        assert_eq!(tally.items, 2 * tally.calls);
    }

    #[tokio::test]
    async fn a_stopped_loop_ends_with_what_it_has() {
        let call = Arc::new(Counts { now: AtomicU64::new(0), most: AtomicU64::new(0) });
        let stop = CancellationToken::new();
        stop.cancel();
        let tally = run(&call, 3, Duration::from_secs(3600), &stop).await;
        assert_eq!(tally.calls + tally.failures(), 0);
    }
}
