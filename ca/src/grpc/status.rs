//! Use-case problems as gRPC statuses, and statuses as the items of SPIRE's batches.

use chancery_proto::spire::api::types;
use tonic::{Code, Status, metadata::MetadataValue};

use super::wire;
use crate::{gate::Denial, problem::Problem};

/// How long a client that retries is asked to wait, in milliseconds. Source: gRPC proposal A6, pushback.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The status of a problem.
pub fn of(problem: Problem) -> Status {
    match problem {
        Problem::AlreadyExists(text) => Status::already_exists(text),
        Problem::Busy { retry_ms, .. } => {
            let mut status = Status::resource_exhausted(problem.to_string());
            status.metadata_mut().insert(PUSHBACK, MetadataValue::from(retry_ms));
            status
        }
        Problem::Conflict(text) => Status::aborted(text),
        Problem::Denied(text) => Status::permission_denied(text),
        Problem::Exhausted(text) => Status::resource_exhausted(text),
        // Not FAILED_PRECONDITION, which attestors take for the end of the instance, nor UNAVAILABLE, which sends them to
        // another server.
        Problem::Held(text) => Status::aborted(text),
        Problem::Internal(text) => Status::internal(text),
        Problem::Invalid(text) => Status::invalid_argument(text),
        Problem::Node(denial) => wire::denial(Denial::Node(denial)),
        Problem::NotFound(text) => Status::not_found(text),
        Problem::Precondition(text) => Status::failed_precondition(text),
        Problem::Unavailable(text) => Status::unavailable(text),
    }
}

/// An item's success; SPIRE's clients need it present.
pub fn ok() -> types::Status {
    types::Status { code: Code::Ok.into(), message: "OK".into() }
}

/// An item's failure.
pub fn item(status: &Status) -> types::Status {
    types::Status { code: status.code().into(), message: status.message().into() }
}

/// Runs what signs or commits in a task of its own: a caller that hangs up does not stop it half way.
///
/// # Errors
/// INTERNAL where the task died.
pub async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(of),
        Err(error) => {
            tracing::error!(%error, "a use case died");
            Err(Status::internal("the use case died; the log has the cause"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_full_says_when_to_come_again() {
        let status = of(Problem::Busy { waiting: 1500, retry_ms: 120 });
        let pushback = status.metadata().get(PUSHBACK).and_then(|text| text.to_str().ok());
        assert_eq!((status.code(), pushback), (Code::ResourceExhausted, Some("120")));
        assert!(of(Problem::Exhausted("x".into())).metadata().is_empty());
    }
}
