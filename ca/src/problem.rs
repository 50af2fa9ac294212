//! Why a use case refuses or fails, in the classes that every front can tell apart.
//!
//! The core's errors are precise; here they become a class and one line. `grpc/` makes statuses of these.

use chancery_core::{
    class::ClassError,
    csr::CsrError,
    entry::{EntryError, issue::IssueError},
    instance::InstanceError,
    leaf::LeafError,
    mint::MintError,
};
use thiserror::Error;

use crate::{
    authority::SignError,
    gate::NodeDenial,
    store::{Refusal, StoreError},
};

/// A refusal or failure, one line each.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// What was to be made is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// What waits to be signed is as much as may wait.
    #[error("{waiting} SVIDs wait to be signed already: ask again in {retry_ms} ms")]
    Busy {
        /// SVIDs.
        waiting: usize,
        /// When there may be room, in milliseconds.
        retry_ms: u64,
    },
    /// It changed between reading and writing; asking again helps.
    #[error("{0}")]
    Conflict(String),
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// A limit is reached.
    #[error("{0}")]
    Exhausted(String),
    /// The instance is held: asking after the end of the hold helps.
    #[error("{0}")]
    Held(String),
    /// Ours to mend; the log has the cause.
    #[error("{0}")]
    Internal(String),
    /// The request breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The calling node's standing.
    #[error("the node must prove itself again")]
    Node(NodeDenial),
    /// There is no such thing, for this caller.
    #[error("{0}")]
    NotFound(String),
    /// Not in this state of things.
    #[error("{0}")]
    Precondition(String),
    /// Not now; asking later helps.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "database");
        Self::Unavailable("the database cannot be asked".into())
    }
}

impl From<SignError> for Problem {
    fn from(error: SignError) -> Self {
        tracing::error!(%error, "signing");
        match error {
            SignError::Key(key) if key.is_transient() => {
                Self::Unavailable("the signing key cannot be used now, nothing was signed".into())
            }
            SignError::NoAuthority => Self::Unavailable(error.to_string()),
            SignError::Encoding(_)
            | SignError::Issuer { .. }
            | SignError::Key(_)
            | SignError::Mismatch(_)
            | SignError::Probe(_)
            | SignError::Profile(_) => Self::Internal("nothing was signed".into()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::AlreadyExists(_)
            | Refusal::AkTaken
            | Refusal::EkTaken
            | Refusal::KeyTaken
            | Refusal::SvidKeyTaken => Self::AlreadyExists(text),
            Refusal::ClassGone | Refusal::Stale => Self::Conflict(text),
            Refusal::InstanceHeld { .. } => Self::Held(text),
            Refusal::NodeNotGood => Self::Node(NodeDenial::NotAttested),
            Refusal::SerialNotCurrent => Self::Node(NodeDenial::NotActive),
            Refusal::EntryGone | Refusal::NotFound => Self::NotFound(text),
            // SPIRE answers INTERNAL where a federated bundle is missing (spire-wire 1.3).
            Refusal::FederationUnknown(_) => Self::Internal(text),
            Refusal::AuthorityNotActive => Self::Unavailable(text),
            Refusal::TooManyLive { .. }
            | Refusal::TooManyProposals { .. }
            | Refusal::TooManyAuthorities { .. }
            | Refusal::TooManyKeys { .. } => Self::Exhausted(text),
            // Steps of the journal that no caller asks for.
            Refusal::AuthorityPublished
            | Refusal::CheckpointOther
            | Refusal::KeyNotGenerated
            | Refusal::KeyKnown(_)
            | Refusal::TooEarly { .. } => Self::Internal(text),
            Refusal::KeyIdTaken | Refusal::KeyNew | Refusal::KeyUsed | Refusal::StartTokenUsed => {
                Self::AlreadyExists(text)
            }
            Refusal::ClassClosed
            | Refusal::EkNotEnrolled
            | Refusal::ExecutableRevoked
            | Refusal::FederationInUse
            | Refusal::HoldCapped(_)
            | Refusal::InstanceNotGood
            | Refusal::KeyNotEnrolled
            | Refusal::NotTainted
            | Refusal::ProcessEnded(_)
            | Refusal::TokenExpired
            | Refusal::TokenUnknown => Self::Precondition(text),
        }
    }
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<ClassError> for Problem {
    fn from(error: ClassError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<CsrError> for Problem {
    fn from(error: CsrError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<LeafError> for Problem {
    fn from(error: LeafError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Leaf(leaf) => leaf.into(),
            IssueError::Lifetime(lifetime) => Self::Unavailable(lifetime.to_string()),
        }
    }
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Lifetime(lifetime) => Self::Unavailable(lifetime.to_string()),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<InstanceError> for Problem {
    fn from(error: InstanceError) -> Self {
        let text = error.to_string();
        match error {
            InstanceError::AlreadyBegun(_) => Self::AlreadyExists(text),
            InstanceError::Ambiguous(_)
            | InstanceError::ClassClosed(_)
            | InstanceError::Dead { .. }
            | InstanceError::ExecutableRevoked
            | InstanceError::Unproven(_) => Self::Precondition(text),
            InstanceError::Held { .. } => Self::Held(text),
            InstanceError::ClassUnknown(_) | InstanceError::NotYours => Self::NotFound(text),
            InstanceError::Id(_) | InstanceError::Leaf(_) | InstanceError::TooManySelectors(_) => Self::Invalid(text),
            InstanceError::Lifetime(_) => Self::Unavailable(text),
            InstanceError::NodeNotGood(standing) => Self::Node(match standing {
                chancery_core::node::Standing::Banned => NodeDenial::Banned,
                chancery_core::node::Standing::Failed | chancery_core::node::Standing::Good => NodeDenial::NotAttested,
            }),
            InstanceError::TooManyLive => Self::Exhausted(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_daemon::pkcs11::TokenError;

    use super::*;
    use crate::keys::KeyError;

    #[test]
    fn a_key_that_is_away_for_a_while_makes_callers_ask_again_and_a_lost_one_does_not() {
        let of = |error: TokenError| Problem::from(SignError::Key(KeyError::Token(error)));
        for away in [TokenError::Unavailable("gone".into()), TokenError::Overloaded(256), TokenError::Hung("C_Sign")] {
            let problem = of(away);
            assert!(
                matches!(&problem, Problem::Unavailable(text) if text.contains("cannot be used now")),
                "{problem:?}"
            );
        }
        for lost in [TokenError::KeyMissing("ca/1".into()), TokenError::BadSignature("ca/1".into())] {
            assert_eq!(of(lost), Problem::Internal("nothing was signed".into()));
        }
        assert!(matches!(Problem::from(SignError::NoAuthority), Problem::Unavailable(_)));
    }
}
