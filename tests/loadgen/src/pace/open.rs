use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{Call, Ledger};
use crate::stats::Tally;

/// Longest sleep of the pacer, so that it sees a stop.
const NAP: Duration = Duration::from_millis(100);

/// Makes a call every `1 / rate` seconds, whether the server answers or not.
///
/// Latency counts from the moment a call was *due*. So a call that had to wait, because the server stalled and all
/// permits were out, or because this program was late, counts with its wait: nothing is omitted in step with the
/// server. Beside it `<name>.service` is the time from sending to answer, and `lag` how late calls were sent.
pub(super) async fn run<C: Call>(
    call: &Arc<C>,
    rate: f64,
    in_flight: usize,
    lasting: Duration,
    stop: &CancellationToken,
) -> Tally {
    let ledger = Arc::new(Ledger::default());
    let permits = Arc::new(Semaphore::new(in_flight));
    let pacer = Pacer {
        call: Arc::clone(call),
        ledger: Arc::clone(&ledger),
        permits: Arc::clone(&permits),
        schedule: Schedule { rate, calls: (rate * lasting.as_secs_f64()).round() as u64 },
        overtime: lasting,
        service: format!("{}.service", call.name()).into(),
        stop: stop.clone(),
    };
    let runtime = Handle::current();
    // A thread of its own: timers of the runtime are a millisecond coarse.
    let paced = tokio::task::spawn_blocking(move || pacer.pace(&runtime)).await;
    // Every permit back: every answer is there.
    let all = u32::try_from(in_flight).unwrap_or(u32::MAX);
    let _ = permits.acquire_many(all).await;
    let mut tally = ledger.take();
    tally.count("unsent", paced.unwrap_or(0));
    tally
}

/// When calls are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    rate: f64,
    calls: u64,
}

impl Schedule {
    /// How long after the start call `number` is due.
    fn due(self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }
}

struct Pacer<C> {
    call: Arc<C>,
    ledger: Arc<Ledger>,
    permits: Arc<Semaphore>,
    schedule: Schedule,
    /// How long calls that are overdue are still sent after the last one was due.
    overtime: Duration,
    /// What the time from sending to answer is filed under.
    service: Arc<str>,
    stop: CancellationToken,
}

impl<C: Call> Pacer<C> {
    /// Sends every call when it is due, or as soon as it can; answers how many were never sent.
    fn pace(&self, runtime: &Handle) -> u64 {
        let start = Instant::now();
        let latest = start + self.schedule.due(self.schedule.calls) + self.overtime;
        for number in 0..self.schedule.calls {
            let due = start + self.schedule.due(number);
            self.sleep_until(due);
            let permit = runtime.block_on(self.permit());
            // Stopped: what comes after this moment is not due any more.
            let Some(permit) = permit else { return 0 };
            if Instant::now() > latest {
                return self.schedule.calls - number;
            }
            self.send(runtime, number, due, permit);
        }
        0
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        }
    }

    fn sleep_until(&self, due: Instant) {
        while !self.stop.is_cancelled() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    fn send(&self, runtime: &Handle, number: u64, due: Instant, permit: OwnedSemaphorePermit) {
        let (call, ledger, service) = (Arc::clone(&self.call), Arc::clone(&self.ledger), Arc::clone(&self.service));
        runtime.spawn(async move {
            let sent = Instant::now();
            let outcome = call.call(number).await;
            let (waited, served) = (due.elapsed(), sent.elapsed());
            let mut tally = ledger.open();
            if outcome.is_ok() {
                tally.time(&service, served);
            }
            tally.call(call.name(), waited, outcome);
            tally.time("lag", sent.saturating_duration_since(due));
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::stats::Outcome;

    /// Answers at once, but stalls everybody for a while at its 100th call.
    struct Stalls {
        door: Semaphore,
        stall: Duration,
    }

    impl Call for Stalls {
        fn name(&self) -> &'static str {
            "call"
        }

        async fn call(&self, number: u64) -> Outcome {
            let _inside = self.door.acquire().await.map_err(|e| e.to_string())?;
            if number == 100 {
                tokio::time::sleep(self.stall).await;
            }
            Ok(1)
        }
    }

    fn stalling(millis: u64) -> Arc<Stalls> {
        Arc::new(Stalls { door: Semaphore::new(1), stall: Duration::from_millis(millis) })
    }

    /// A tenth of all calls fall into the stall; with one call under way at a time the closed loop sees only one of them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_that_a_stall_held_back_count_with_their_wait() {
        let stop = CancellationToken::new();
        let open = run(&stalling(200), 500.0, 1, Duration::from_secs(2), &stop).await;
        assert_eq!(open.calls + open.counts["unsent"], 1000);
        assert_eq!(open.counts["unsent"], 0);
        let (due, service) = (&open.latencies["call"], &open.latencies["call.service"]);
        assert!(due.micros(0.95) > 80_000.0, "from the moment due: p95 {} us", due.micros(0.95));
        assert!(service.micros(0.95) < 50_000.0, "from sending: p95 {} us", service.micros(0.95));
        let closed = super::super::closed::run(&stalling(200), 1, Duration::from_millis(500), &stop).await;
        assert!(closed.latencies["call"].micros(0.95) < 50_000.0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_that_a_dead_server_never_took_are_counted_as_unsent() {
        let tally = run(&stalling(700), 1000.0, 1, Duration::from_millis(200), &CancellationToken::new()).await;
        assert_eq!(tally.calls + tally.counts["unsent"], 200);
        assert!(tally.counts["unsent"] > 50, "{:?}", tally.counts);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_ends_the_pacer_at_once() {
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let (load, stopper) = (stalling(0), stop.clone());
        let running = run(&load, 10.0, 4, Duration::from_secs(3600), &stop);
        let (tally, ()) = tokio::join!(running, async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            stopper.cancel();
        });
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!((2..=5).contains(&tally.calls), "{}", tally.calls);
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let schedule = Schedule { rate: 3.0, calls: 9 };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
    }
}
