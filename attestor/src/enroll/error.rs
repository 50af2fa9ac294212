use thiserror::Error;

use crate::{
    ca::{CaError, Denial, DialError},
    node::{CollectError, Ending},
};

/// Why the node has no new SVID.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The CA, once connected.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// This machine cannot prove itself.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The CA's answer is not an SVID of ours.
    #[error("the CA's answer is refused: {0}")]
    Svid(String),
}

impl EnrolError {
    /// Whether the CA judged the node, or nobody knows.
    pub(super) fn ending(&self) -> Ending {
        use tonic::Code::{InvalidArgument, PermissionDenied};
        match self {
            Self::Ca(CaError::Denied(_)) => Ending::Denied,
            Self::Ca(CaError::Refused { code: InvalidArgument | PermissionDenied, .. }) => Ending::Denied,
            _ => Ending::Unknown,
        }
    }

    /// Whether an operator banned the node.
    pub(super) fn is_ban(&self) -> bool {
        matches!(self, Self::Ca(CaError::Denied(Some(Denial::Banned))))
    }

    /// One line for the operator: what to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Ca(CaError::Denied(Some(Denial::Banned))) => {
                "an operator banned it; `chancery-ca node evict` lifts the ban"
            }
            Self::Ca(CaError::Denied(_)) => {
                "the CA's record says why (`chancery-ca audit list`); a new TPM is enrolled with `chancery-ca node enrol --ek HASH`, the hash is what `chancery-attestor ek` prints; a new token with `--key HASH`, as `chancery-attestor key` prints it"
            }
            Self::Ca(CaError::Refused { code: tonic::Code::FailedPrecondition, .. }) => {
                "add this node_attestor to `node_attestors` in the CA's configuration"
            }
            _ => "trying again",
        }
    }
}
