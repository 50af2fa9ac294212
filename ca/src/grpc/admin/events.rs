//! ListEvents: the record as a stream, to its end or on and on.

use std::{sync::Arc, time::Duration};

use chancery_proto::chancery::admin::v1::Event;
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use super::convert;
use crate::{audit::Reader, grpc::status, state::State};

/// Other servers' commits wake nobody here, so the log is looked at this often as well.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Where events go; closed when the client hung up.
pub type Answers = mpsc::Sender<Result<Event, Status>>;

/// Sends every event after `after`, then, when asked to follow, each one as it is committed.
pub async fn run(state: Arc<State>, after: Option<i64>, follow: bool, answers: Answers) {
    let mut reader = Reader::new(after);
    // Taken before the first read, so that a commit in between is seen.
    let mut last = state.store.last_number();
    loop {
        last.mark_unchanged();
        match reader.next(&state).await {
            Err(problem) => {
                // The client may be gone; then nobody is left to tell.
                let _ = answers.send(Err(status::of(problem))).await;
                return;
            }
            Ok(events) if events.is_empty() => {
                if !follow || !wait(&state, &mut last, &answers).await {
                    return;
                }
            }
            Ok(events) => {
                for event in events {
                    if answers.send(Ok(convert::event(event))).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits for the next commit; false where the stream is to end.
async fn wait(state: &State, last: &mut tokio::sync::watch::Receiver<i64>, answers: &Answers) -> bool {
    tokio::select! {
        () = state.shutdown.soft.cancelled() => false,
        () = answers.closed() => false,
        changed = timeout(LOOK_AGAIN, last.changed()) => !matches!(changed, Ok(Err(_))),
    }
}
