use std::{io, time::Duration};

use thiserror::Error;

use crate::{
    id::SpiffeId,
    jwt::JwtError,
    time::UnixTime,
    tls::TlsError,
    workload::{ClientError, EndpointError},
};

/// Why a source has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A call to the Workload API failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The endpoint can not be used, or none is named.
    #[error("the Workload API endpoint can not be used")]
    Endpoint(#[from] EndpointError),
    /// The SVID ended and no newer one came.
    #[error("the SVID of {id} ended at {not_after} and was not renewed")]
    Expired {
        /// Whose SVID.
        id: SpiffeId,
        /// Its last second.
        not_after: UnixTime,
    },
    /// The process could not be made non-dumpable.
    #[error("the process can not be made non-dumpable")]
    Hardening(#[source] io::Error),
    /// A token that is valid by itself, of an instance that is held.
    #[error("the token of {id} is not accepted: the instance is held until {until}")]
    Held {
        /// Whose it is.
        id: SpiffeId,
        /// At this second the hold is over.
        until: UnixTime,
    },
    /// A token that is not valid for the audience.
    #[error("the token is not valid")]
    Jwt(#[from] JwtError),
    /// JWT bundles were not asked for, see `SourceBuilder::with_jwt_bundles`.
    #[error("this source does not follow JWT bundles")]
    NoJwtBundles,
    /// The caller has no identity (any more).
    #[error("no identity: {why}")]
    NoIdentity {
        /// What the Workload API said.
        why: String,
    },
    /// A token that is valid by itself and was revoked.
    #[error("the token of {id} was revoked")]
    Revoked {
        /// Whose it is.
        id: SpiffeId,
    },
    /// No identity came within the time the caller gave.
    #[error("no identity within {waited:?}: {why}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// What happened last.
        why: String,
    },
    /// A TLS configuration could not be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The target of a channel is not a URI.
    #[error("{target:?} is not a URI to dial")]
    Target {
        /// What was given.
        target: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}
