//! Who signs next: threads of their own, one queue in the order of urgency, and an end to it.
//!
//! A signature and the check of a CSR keep a core busy for tens of microseconds, and a token for milliseconds: on the
//! threads that serve connections they would keep streams and health checks waiting. What waits here is bounded; beyond
//! that callers are told when to come again, those that can wait best first
//! ([0060](../../docs/decisions/0060-who-signs-next.md)). Called by the use cases that nodes call by the hundred.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{metrics::Metrics, problem::Problem};

/// SVIDs that may wait for each thread: about 100 ms of work where the keys are in memory.
const WAITING_PER_THREAD: usize = 1500;
/// Bounds of what a caller is told to wait, in milliseconds.
const RETRY_MS: (u64, u64) = (50, 5000);
/// Weight of the newest measurement of what an SVID costs: one in so many.
const SMOOTHING: u64 = 16;

/// How bad it is to wait; the first is the worst.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// A process that has no identity yet.
    First,
    /// An SVID that ends soon.
    Expiring,
    /// The server cannot tell.
    Unknown,
    /// An SVID that is good for a while.
    Refresh,
}

impl Urgency {
    /// In order.
    pub const ALL: [Self; 4] = [Self::First, Self::Expiring, Self::Unknown, Self::Refresh];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::First => "first",
            Self::Refresh => "refresh",
            Self::Unknown => "unknown",
        }
    }

    /// Part of the queue, in percent, beyond which it is not let in: what can wait leaves room for what cannot.
    fn share(self) -> usize {
        match self {
            Self::First => 100,
            Self::Expiring => 90,
            Self::Unknown => 75,
            Self::Refresh => 50,
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Threads that sign, and their queue. They end when it is dropped, once nothing waits.
pub struct Signing {
    shared: Arc<Shared>,
    threads: usize,
    capacity: usize,
}

struct Shared {
    // Guards what waits; held for a push or a pop, never while signing.
    queue: Mutex<Queue>,
    ready: Condvar,
    /// What an SVID costs of late, in nanoseconds.
    cost_ns: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    jobs: [VecDeque<(usize, Work)>; 4],
    /// SVIDs, not jobs.
    waiting: usize,
    /// Threads that have nothing to do: waking nobody is a system call too.
    idle: usize,
    over: bool,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("threads", &self.threads)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Signing {
    /// `threads` of them.
    ///
    /// # Errors
    /// What the system says where it gives no thread.
    pub fn start(threads: usize, metrics: &Arc<Metrics>) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (queue, ready, cost_ns) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { queue, ready, cost_ns, metrics: Arc::clone(metrics) });
        let this = Self { shared: Arc::clone(&shared), threads, capacity: threads * WAITING_PER_THREAD };
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("signing-{n}")).spawn(move || shared.work())?;
        }
        Ok(this)
    }

    /// SVIDs that wait now.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting
    }

    /// Does `work`, which is one SVID's, when it is its turn.
    ///
    /// # Errors
    /// [`Problem::Busy`] where the queue has no room for it; [`Problem::Internal`] where it panics.
    pub async fn one<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, wait) = oneshot::channel();
        let job: Work = Box::new(move || {
            // A caller that went away needs no answer.
            let _ = answer.send(work());
        });
        self.push(urgency, 1, vec![(1, job)])?;
        wait.await.map_err(|_| died())
    }

    /// Does `work` with each of `items`, spread over the threads that have nothing to do: handing over costs too. The answers
    /// are in order. All are let in, or none.
    ///
    /// # Errors
    /// As [`Signing::one`].
    pub async fn each<I, T>(
        &self,
        urgency: Urgency,
        items: Vec<I>,
        work: impl Fn(I) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Problem>
    where
        I: Send + 'static,
        T: Send + 'static,
    {
        let (count, mut parts, mut answers) = (items.len(), Vec::new(), Vec::new());
        let idle = self.shared.lock().idle.clamp(1, self.threads);
        let size = count.div_ceil(idle).max(1);
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let part: Vec<I> = items.by_ref().take(size).collect();
            let (work, (answer, wait)) = (work.clone(), oneshot::channel());
            answers.push(wait);
            let job = move || {
                let _ = answer.send(part.into_iter().map(&work).collect::<Vec<T>>());
            };
            parts.push((size, Box::new(job) as Work));
        }
        self.push(urgency, count, parts)?;
        let mut done = Vec::with_capacity(count);
        for answer in answers {
            done.extend(answer.await.map_err(|_| died())?);
        }
        Ok(done)
    }

    fn push(&self, urgency: Urgency, count: usize, parts: Vec<(usize, Work)>) -> Result<(), Problem> {
        let mut queue = self.shared.lock();
        // Nothing that an empty queue would not take: a batch may be larger than a share.
        if queue.waiting > 0 && queue.waiting + count > self.capacity * urgency.share() / 100 {
            let waiting = queue.waiting;
            drop(queue);
            self.shared.metrics.shed(urgency, count);
            return Err(Problem::Busy { waiting, retry_ms: self.retry_ms(waiting) });
        }
        queue.waiting += count;
        self.shared.metrics.signing_waiting.set(i64::try_from(queue.waiting).unwrap_or(i64::MAX));
        let line = &mut queue.jobs[urgency as usize];
        let mut left = count;
        for (size, work) in parts {
            line.push_back((size.min(left), work));
            left = left.saturating_sub(size);
        }
        let jobs = line.len();
        let woken = queue.idle.min(jobs);
        drop(queue);
        (0..woken).for_each(|_| self.shared.ready.notify_one());
        Ok(())
    }

    /// When what waits now will be done.
    fn retry_ms(&self, waiting: usize) -> u64 {
        let each = self.shared.cost_ns.load(Ordering::Relaxed);
        let (waiting, threads) = (u64::try_from(waiting).unwrap_or(u64::MAX), u64::try_from(self.threads).unwrap_or(1));
        (waiting.saturating_mul(each) / threads / 1_000_000).clamp(RETRY_MS.0, RETRY_MS.1)
    }
}

fn died() -> Problem {
    Problem::Internal("signing died; the log has the cause".into())
}

impl Drop for Signing {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        while let Some((count, work)) = self.next() {
            let began = Instant::now();
            // What it would have answered is lost, which its caller sees; the thread goes on.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("signing panicked");
            }
            self.measured(began.elapsed(), count);
        }
    }

    fn next(&self) -> Option<(usize, Work)> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.iter_mut().find_map(VecDeque::pop_front) {
                queue.waiting = queue.waiting.saturating_sub(job.0);
                self.metrics.signing_waiting.set(i64::try_from(queue.waiting).unwrap_or(i64::MAX));
                return Some(job);
            }
            if queue.over {
                return None;
            }
            queue.idle += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn measured(&self, took: Duration, count: usize) {
        let each = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / u64::try_from(count.max(1)).unwrap_or(1);
        let before = self.cost_ns.load(Ordering::Relaxed);
        let now = if before == 0 { each } else { before - before / SMOOTHING + each / SMOOTHING };
        self.cost_ns.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use prometheus_client::registry::Registry;

    use super::*;

    fn signing(threads: usize) -> Signing {
        Signing::start(threads, &Arc::new(Metrics::register(&mut Registry::default()))).unwrap()
    }

    /// Keeps the only thread busy until the sender is dropped.
    fn held(signing: &Arc<Signing>) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let busy = Arc::clone(signing);
        tokio::spawn(async move {
            let work = move || {
                began.send(()).unwrap();
                let _ = wait.recv();
            };
            busy.one(Urgency::First, work).await
        });
        tokio::task::block_in_place(|| begun.recv().unwrap());
        release
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_answers_of_many_are_in_order() {
        let signing = signing(3);
        for count in [0, 1, 2, 3, 4, 32, 100] {
            let done = signing.each(Urgency::Unknown, (0..count).collect(), |n: i32| n * 2).await.unwrap();
            assert_eq!(done, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
        assert_eq!(signing.waiting(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_urgent_goes_first() {
        let signing = Arc::new(signing(1));
        let release = held(&signing);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for urgency in Urgency::ALL.into_iter().rev() {
            let (line, done) = (Arc::clone(&signing), Arc::clone(&order));
            let before = signing.waiting();
            waiting
                .push(tokio::spawn(async move { line.one(urgency, move || done.lock().unwrap().push(urgency)).await }));
            while signing.waiting() == before {
                tokio::task::yield_now().await;
            }
        }
        drop(release);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), Urgency::ALL);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_can_wait_is_turned_away_before_what_cannot() {
        let signing = Arc::new(signing(1));
        let release = held(&signing);
        let mut let_in = [0; 4];
        let mut waiting = Vec::new();
        // From the least urgent on: each finds room beyond the one before it.
        for urgency in Urgency::ALL.into_iter().rev() {
            loop {
                let mut one = Box::pin({
                    let signing = Arc::clone(&signing);
                    async move { signing.each(urgency, vec![(); 10], |()| ()).await }
                });
                match futures_util::poll!(&mut one) {
                    std::task::Poll::Pending => waiting.push(one),
                    std::task::Poll::Ready(answer) => {
                        let Err(Problem::Busy { retry_ms, waiting }) = answer else { panic!("{answer:?}") };
                        assert!((50..=5000).contains(&retry_ms) && waiting == signing.waiting());
                        break;
                    }
                }
            }
            let_in[urgency as usize] = signing.waiting();
        }
        assert_eq!(let_in, [1500, 1350, 1120, 750], "of 1,500, in tens");
        drop(release);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(signing.waiting(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_is_one_callers_and_the_thread_goes_on() {
        let signing = signing(1);
        let died = signing.one(Urgency::First, || panic!("on purpose")).await;
        assert!(matches!(died, Err(Problem::Internal(_))), "{died:?}");
        assert_eq!(signing.one(Urgency::First, || 7).await, Ok(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_batch_larger_than_a_share_is_let_into_an_empty_queue() {
        let signing = signing(1);
        let done = signing.each(Urgency::Refresh, vec![(); 2000], |()| ()).await.unwrap();
        assert_eq!(done.len(), 2000);
    }
}
