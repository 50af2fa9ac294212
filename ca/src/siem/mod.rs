//! The record, sent on to where people watch: files of JSON lines, syslog over TLS, OTLP logs.
//!
//! One task for each output, behind the commit and never in its way. It reads the record from its cursor, a page at a time,
//! delivers the page, and only when the other side has it writes the cursor down: at least once, in order, and nothing is lost
//! while the other side is slow or away. What it holds is one page.

mod cursor;
mod file;
mod form;
mod net;
mod otlp;
mod syslog;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use chancery_daemon::jitter::jittered;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use self::{cursor::Cursor, form::Form};
use crate::{
    config::{Siem, SiemKind},
    state::State,
    store::StoredEvent,
};

/// Events of one page; each is at most 64 KiB.
const PAGE: u32 = 256;
/// How long the other side may take for one page.
const DELIVERY: Duration = Duration::from_secs(30);
/// Between two looks at the record where nothing wakes: other servers' commits do not.
const LOOK: Duration = Duration::from_secs(2);
/// Least time between two pages that are not full.
const COALESCE: Duration = Duration::from_millis(250);
/// The first wait after a failure, doubled up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Why an output cannot be opened.
#[derive(Debug, Error)]
#[error("siem {name:?}: {why}")]
pub struct SiemError {
    name: String,
    why: String,
}

/// Where a page goes.
enum Sink {
    File(file::Lines),
    Otlp(otlp::Collector),
    Syslog(syslog::Receiver),
}

impl Sink {
    fn open(config: &Siem) -> Result<Self, String> {
        Ok(match config.kind {
            SiemKind::Jsonl => Self::File(file::Lines::open(config.path.clone().unwrap_or_default())),
            SiemKind::Otlp => Self::Otlp(otlp::Collector::open(config)?),
            SiemKind::Syslog => Self::Syslog(syslog::Receiver::open(config)?),
        })
    }

    /// Returns once the other side has all of them.
    async fn deliver(&self, form: &Form, events: &[StoredEvent]) -> Result<(), String> {
        match self {
            Self::File(lines) => lines.deliver(form, events).await,
            Self::Otlp(collector) => collector.deliver(form, events).await,
            Self::Syslog(receiver) => receiver.deliver(form, events).await,
        }
    }
}

/// Starts a task for each output.
///
/// # Errors
/// [`SiemError`]: a cursor or a certificate that cannot be read.
pub fn start(state: &Arc<State>) -> Result<(), SiemError> {
    let mut tasks = Vec::new();
    for config in &state.config.siem {
        let told = |why: String| SiemError { name: config.name.clone(), why };
        let sink = Sink::open(config).map_err(told)?;
        let cursor = Cursor::open(&state.config.data_dir, &config.name).map_err(told)?;
        let form = Form { domain: state.trust_domain.to_string(), server: state.server_id.clone() };
        tasks.push(Task { state: Arc::clone(state), name: config.name.clone(), sink, cursor, form });
    }
    tasks.into_iter().for_each(|task| drop(tokio::spawn(task.run())));
    Ok(())
}

struct Task {
    state: Arc<State>,
    name: String,
    sink: Sink,
    cursor: Cursor,
    form: Form,
}

impl Task {
    async fn run(mut self) {
        let stop = self.state.shutdown.soft.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.send() => {}
        }
    }

    async fn send(&mut self) {
        let mut last = self.state.store.last_number();
        let mut wait = RETRY;
        loop {
            last.mark_unchanged();
            match self.page().await {
                Ok(true) => wait = RETRY,
                Ok(false) => {
                    wait = RETRY;
                    sleep(COALESCE).await;
                    // Whether woken or not: look.
                    let _ = timeout(LOOK, last.changed()).await;
                }
                Err(why) => {
                    self.count("failed", 1);
                    tracing::warn!(siem = %self.name, %why, "events are not taken; they wait in the record");
                    sleep(jittered(wait)).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Delivers the next page; whether there may be more at once.
    async fn page(&mut self) -> Result<bool, String> {
        let store = &self.state.store;
        let (epoch, number) = self.cursor.place();
        let events = store.leaves(epoch, number, PAGE).await.map_err(|e| crate::run::chain(&e))?;
        let end = store.log_end().await.map_err(|e| crate::run::chain(&e))?;
        if events.is_empty() {
            self.behind(0);
            // An epoch that is over has no more: what was lost with it is not waited for.
            let next = store.next_epoch(epoch).await.map_err(|e| crate::run::chain(&e))?;
            return match next.filter(|_| epoch < end.epoch) {
                Some(next) => self.cursor.step(next, -1).map(|()| true),
                None => Ok(false),
            };
        }
        if epoch == end.epoch {
            self.behind(end.number - number);
        }
        let delivered = timeout(DELIVERY, self.sink.deliver(&self.form, &events));
        delivered.await.map_err(|_| format!("no answer within {} s", DELIVERY.as_secs()))??;
        let last = events.last().map_or(number, |event| event.number);
        self.cursor.step(epoch, last)?;
        self.count("sent", events.len() as u64);
        if epoch == end.epoch {
            self.behind((end.number - last).max(0));
        }
        Ok(events.len() == PAGE as usize)
    }

    fn behind(&self, events: i64) {
        self.state.metrics.siem_behind.get_or_create(&vec![("name", self.name.clone())]).set(events);
    }

    fn count(&self, result: &'static str, events: u64) {
        let labels = vec![("name", self.name.clone()), ("result", result.to_owned())];
        self.state.metrics.siem_events.get_or_create(&labels).inc_by(events);
    }
}

/// The name of an event among all: `<trust domain>/<epoch>/<number>`.
fn uid(domain: &str, event: &StoredEvent) -> String {
    format!("{}/{}", chancery_core::log::checkpoint::origin(domain, event.epoch), event.number)
}
