//! What went wrong, as one line that says what to do, and its exit code.

use thiserror::Error;
use tonic::{Code, Status};

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// The CA, the system or a file said no: exit code 1.
    #[error("{0}")]
    Refused(String),
    /// The arguments make no sense: exit code 2.
    #[error("{0}; see --help")]
    Usage(String),
}

impl Failure {
    /// A refusal.
    pub fn refused(text: String) -> Self {
        Self::Refused(text)
    }

    /// Wrong arguments.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// 1 or 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = status.message().replace('\n', " ");
        Self::Refused(match status.code() {
            Code::PermissionDenied => format!("not allowed: {text}; use the admin socket"),
            Code::Unavailable => format!("not now: {text}; try again"),
            _ if text.is_empty() => status.code().to_string(),
            _ => text,
        })
    }
}
