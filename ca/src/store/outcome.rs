use chancery_core::{instance::Cap, reason::Reason};
use chancery_sdk::{id::TrustDomain, time::UnixTime};

/// What became of a fact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is durable.
    Done {
        /// The log's epoch.
        epoch: i64,
        /// Number of the fact's first event; of the last event before it where the fact changed nothing.
        number: i64,
    },
    /// A guard said no: nothing changed, except that an expired join token is spent.
    Refused(Refusal),
}

impl Outcome {
    /// The number of the first event, or the refusal.
    ///
    /// # Errors
    /// The [`Refusal`], where a guard said no.
    pub fn done(self) -> Result<i64, Refusal> {
        match self {
            Self::Done { number, .. } => Ok(number),
            Self::Refused(refusal) => Err(refusal),
        }
    }
}

/// Which guard of the committing transaction said no.
#[derive(Clone, Debug, Eq, thiserror::Error, PartialEq)]
pub enum Refusal {
    /// Another node is bound to this attestation key.
    #[error("the attestation key belongs to another node")]
    AkTaken,
    /// The row is there already; the ID names it where it is not the one asked for.
    #[error("already exists{}", .0.as_ref().map(|id| format!(": {id}")).unwrap_or_default())]
    AlreadyExists(Option<String>),
    /// The issuing authority is unknown or not active: sign again with the current one.
    #[error("the issuing authority is not active")]
    AuthorityNotActive,
    /// The key's authority is published.
    #[error("the key's authority is published")]
    AuthorityPublished,
    /// The last checkpoint is not the one that the signer stored before.
    #[error("the last checkpoint in the database is not the one before this")]
    CheckpointOther,
    /// An operator closed the class on this node, or everywhere.
    #[error("{}: the class is closed here until an operator reopens it", Reason::ClassClosed)]
    ClassClosed,
    /// The class is gone or was changed since it was read.
    #[error("the class is gone or was changed")]
    ClassGone,
    /// The EK is not enrolled.
    #[error("the EK is not enrolled")]
    EkNotEnrolled,
    /// Another node is bound to this EK.
    #[error("the EK belongs to another node")]
    EkTaken,
    /// The entry is gone.
    #[error("the entry is gone")]
    EntryGone,
    /// An operator revoked the process's executable.
    #[error("{}: the executable was revoked", Reason::ExecutableRevoked)]
    ExecutableRevoked,
    /// Entries federate with the domain.
    #[error("entries federate with this trust domain")]
    FederationInUse,
    /// No bundle of this domain is stored.
    #[error("no bundle of trust domain {0} is stored")]
    FederationUnknown(TrustDomain),
    /// A detector reached its caps.
    #[error("no hold by a detector: {0}")]
    HoldCapped(Cap),
    /// The instance is held; asked for afterwards it is given again.
    #[error("{}: the instance is held until {until}: nothing new is issued for it", Reason::InstanceHeld)]
    InstanceHeld {
        /// End of the hold.
        until: UnixTime,
    },
    /// The instance has ended, is another process's, or never was.
    #[error("the instance is not running")]
    InstanceNotGood,
    /// Another key is published under this key ID.
    #[error("another key is published under this key ID")]
    KeyIdTaken,
    /// Another row of the journal has this public key.
    #[error("the public key is another key's: {0}")]
    KeyKnown(String),
    /// The key's journal does not say that it was generated.
    #[error("the key is not generated, or is another server's")]
    KeyNotGenerated,
    /// The attestation key is not enrolled.
    #[error("the attestation key is not enrolled")]
    KeyNotEnrolled,
    /// Another node is bound to this token's attestation key.
    #[error("the token's attestation key belongs to another node")]
    KeyTaken,
    /// The key is not one that the running instance was given before.
    #[error("this process is an instance already, with another key: reconcile and renew")]
    KeyNew,
    /// The public key was used by an instance before; a key belongs to one instance for ever.
    #[error("the public key belongs to another instance")]
    KeyUsed,
    /// The node is unknown, failed or banned.
    #[error("the node is not in good standing")]
    NodeNotGood,
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// An authority is tainted before it is revoked.
    #[error("the authority is not tainted")]
    NotTainted,
    /// The instance that the process was has ended; its process never begins again.
    #[error("instance {0} has ended: its process never begins again")]
    ProcessEnded(String),
    /// The node's certificate is neither its current nor its fresh one.
    #[error("the node's certificate was replaced")]
    SerialNotCurrent,
    /// The row was changed since it was read.
    #[error("changed meanwhile")]
    Stale,
    /// The process is a running instance.
    #[error("the process is an instance already")]
    StartTokenUsed,
    /// The key for the node's SVID is another node's, an instance's or an attestation key.
    #[error("the key of the SVID belongs to another identity")]
    SvidKeyTaken,
    /// The join token's time is over; it is spent now.
    #[error("the join token expired")]
    TokenExpired,
    /// The join token is unknown or was used.
    #[error("the join token is unknown or was used")]
    TokenUnknown,
    /// What the key signed may still be valid.
    #[error("the key is kept until {keep_until}")]
    TooEarly {
        /// Until then.
        keep_until: UnixTime,
    },
    /// The server publishes as many authorities of the kind as it may.
    #[error("the server publishes {max} authorities of this kind already")]
    TooManyAuthorities {
        /// The limit.
        max: i64,
    },
    /// So many keys of the server wait for an authority already.
    #[error("the server has {max} unused keys of this kind already")]
    TooManyKeys {
        /// The limit.
        max: i64,
    },
    /// So many proposals of the detector for the class wait for a review already.
    #[error("{max} proposals of this detector for the class are open already")]
    TooManyProposals {
        /// The limit.
        max: i64,
    },
    /// The node runs as many instances as it may.
    #[error("the node runs {max} instances already")]
    TooManyLive {
        /// The limit.
        max: i64,
    },
}
