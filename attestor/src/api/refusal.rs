use thiserror::Error;
use tonic::Status;

use crate::{ca::CaError, instance::InstanceError, sync::SyncFailed, workload::AttestError};

/// Why a caller gets nothing.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The request itself is wrong.
    #[error("{0}")]
    Argument(String),
    /// Nothing is granted to it. Clients drop what they hold.
    #[error("{0}")]
    Denied(String),
    /// Not now. Clients keep what they hold and try again.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// The caller matches nothing.
    pub(super) fn no_identity() -> Self {
        Self::Denied("no identity issued".into())
    }
}

impl From<Refusal> for Status {
    /// Source: conformance Appendix A.3.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Argument(why) => Self::invalid_argument(why),
            Refusal::Denied(why) => Self::permission_denied(why),
            Refusal::Unavailable(why) => Self::unavailable(why),
        }
    }
}

impl From<AttestError> for Refusal {
    fn from(error: AttestError) -> Self {
        match error {
            // It is not who connected, or nobody any more: nothing that is held is its own.
            AttestError::Ended { .. } | AttestError::Identity { .. } => Self::Denied(error.to_string()),
            AttestError::Changed { .. } | AttestError::Unavailable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<InstanceError> for Refusal {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::OtherClass { .. } | InstanceError::Over(_) => Self::Denied(error.to_string()),
            InstanceError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<SyncFailed> for Refusal {
    fn from(error: SyncFailed) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<CaError> for Refusal {
    fn from(error: CaError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
