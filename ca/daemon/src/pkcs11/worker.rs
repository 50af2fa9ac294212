//! The threads that call the module: each call once, and again only where the table of answers says that it helps.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    ends::Ends,
    error::{Class, Fault, TokenError, classify, refused},
    queue::Queue,
    seat::{Desk, Place, Seat},
};

/// Tries of a call that finds the token busy, and the rest between two.
const BUSY_TRIES: usize = 3;
const BUSY_REST: Duration = Duration::from_millis(20);

/// The threads of one token.
pub(super) struct Workers {
    pub queue: Queue,
    pub place: Arc<Place>,
    /// Threads wanted; as many again may replace hung ones.
    pub wanted: usize,
    /// These threads, the keeper and the watchdog.
    pub ends: Ends,
    // Guards the list of threads.
    marks: Mutex<Vec<Arc<Mark>>>,
    began: Instant,
}

/// What a thread is doing, for the watchdog.
#[derive(Default)]
pub(super) struct Mark {
    /// Milliseconds since the beginning after which the module counts as hung; 0 while idle.
    limit: AtomicU64,
    /// Set when the thread ended.
    ended: AtomicU64,
}

impl Workers {
    pub(super) fn new(queue: Queue, place: Arc<Place>, wanted: usize) -> Arc<Self> {
        Arc::new(Self { queue, place, wanted, ends: Ends::default(), marks: Mutex::default(), began: Instant::now() })
    }

    /// Starts one more thread.
    pub(super) fn spawn(self: &Arc<Self>) -> std::io::Result<()> {
        let mark = Arc::new(Mark::default());
        let (own, workers) = (Arc::clone(&mark), Arc::clone(self));
        let living = self.ends.living();
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        thread::Builder::new().name(format!("p11-{}", marks.len())).spawn(move || {
            workers.run(&own);
            drop(living);
        })?;
        marks.push(mark);
        Ok(())
    }

    fn run(self: Arc<Self>, mark: &Mark) {
        let mut seat = Seat::new(Arc::clone(&self.place));
        while let Some(job) = self.queue.pop() {
            if Instant::now() >= job.until {
                // Whoever asked is gone: the token is not touched.
                (job.work)(None);
                continue;
            }
            let limit = (self.began.elapsed() + job.patience).as_millis();
            mark.limit.store(u64::try_from(limit).unwrap_or(u64::MAX).max(1), Ordering::Release);
            (job.work)(Some(&mut seat));
            mark.limit.store(0, Ordering::Release);
        }
        seat.close_session(Instant::now() + BUSY_REST);
        mark.ended.store(1, Ordering::Release);
    }

    /// Threads that run, and those of them in calls that take too long.
    pub(super) fn count(&self) -> (usize, usize) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|mark| mark.ended.load(Ordering::Acquire) == 0);
        let late = |mark: &Arc<Mark>| (1..now).contains(&mark.limit.load(Ordering::Acquire));
        (marks.len(), marks.iter().filter(|mark| late(mark)).count())
    }
}

/// What was tried for one call.
#[derive(Default)]
struct Tried {
    busy: usize,
    login: bool,
    refind: bool,
    reinit: bool,
    reopen: bool,
    unclear: bool,
}

/// Does `work` at a seat until it is done, or nothing helps.
pub(super) fn attempt<T>(
    seat: &mut Seat,
    until: Instant,
    work: &mut dyn FnMut(&mut Desk<'_>) -> Result<T, Fault>,
) -> Result<T, TokenError> {
    let mut tried = Tried::default();
    loop {
        let fault = match seat.perform(until, work) {
            Ok(done) => {
                seat.place.status.succeeded();
                return Ok(done);
            }
            Err(fault) => fault,
        };
        let (class, error) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Gone(error) => (Class::Reinit, error),
            Fault::Call(error) => (classify(&error), refused(&error)),
        };
        tracing::debug!(?class, %error, "token");
        if !helps(seat, class, &mut tried, until, &error)? {
            return Err(given_up(seat, class, error));
        }
    }
}

/// Does what the class asks for, once; whether to try again.
fn helps(
    seat: &mut Seat,
    class: Class,
    tried: &mut Tried,
    until: Instant,
    error: &TokenError,
) -> Result<bool, TokenError> {
    let first = |done: &mut bool| !std::mem::replace(done, true);
    Ok(match class {
        Class::Auth | Class::Never => false,
        Class::Busy => {
            tried.busy += 1;
            let again = tried.busy < BUSY_TRIES && Instant::now() + BUSY_REST < until;
            if again {
                thread::sleep(BUSY_REST);
            }
            again
        }
        Class::Login => {
            seat.place.login_lost();
            first(&mut tried.login)
        }
        Class::Refind => {
            seat.forget_handles();
            first(&mut tried.refind)
        }
        Class::Reopen => {
            seat.close_session(until);
            seat.forget_handles();
            first(&mut tried.reopen)
        }
        Class::Unclear => {
            seat.close_session(until);
            seat.forget_handles();
            first(&mut tried.unclear)
        }
        Class::Reinit => first(&mut tried.reinit) && seat.place.renew(seat.generation(), until, error)?,
    })
}

/// What whoever asked is told when nothing helped.
fn given_up(seat: &Seat, class: Class, error: TokenError) -> TokenError {
    match class {
        Class::Busy => TokenError::Overloaded(0),
        Class::Reinit => {
            seat.place.status.went_down(error.to_string());
            if seat.place.was_open() { TokenError::Unavailable(error.to_string()) } else { error }
        }
        Class::Auth | Class::Login | Class::Never | Class::Refind | Class::Reopen | Class::Unclear => error,
    }
}

impl Place {
    /// Whether the token was ever reached.
    pub(super) fn was_open(&self) -> bool {
        self.identity().is_some()
    }

    /// Initialises the module again, unless the token was never there; whether there is a new generation.
    fn renew(&self, failed: u64, until: Instant, error: &TokenError) -> Result<bool, TokenError> {
        if !self.was_open() {
            return Ok(false);
        }
        let renewed = self.module.renew(failed, until);
        if renewed.is_err() {
            self.status.went_down(error.to_string());
        }
        Ok(renewed?.is_some())
    }
}
