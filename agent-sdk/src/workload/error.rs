//! What can go wrong, split by whose fault it is: the call's, or the content of an answer.

use thiserror::Error;

use crate::{id::IdError, jwt::JwtError, x509::X509SvidError};

/// Why a call to the Workload API gave nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server answered within the rules, but the answer can not be used.
    #[error("the Workload API's answer can not be used")]
    Answer(#[source] UpdateError),
    /// The server did not answer in time.
    #[error("the Workload API did not answer within {secs} s")]
    NoAnswer {
        /// How long was waited.
        secs: u64,
    },
    /// A JWT-SVID was asked for without an audience.
    #[error("a JWT-SVID needs an audience")]
    NoAudience,
    /// The server refused, or could not be reached; see the status' code.
    #[error("the Workload API answered {:?}: {}", .0.code(), .0.message())]
    Status(#[source] Box<tonic::Status>),
    /// The stream ended before its first message.
    #[error("the Workload API closed the stream without a message")]
    Ended,
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Why a message was discarded as a whole; what was known before it stays (conformance WA-17).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A bundle that does not parse.
    #[error("bundle of {trust_domain} does not parse")]
    Bundle {
        /// Whose bundle.
        trust_domain: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bundle map's key that is not the SPIFFE ID of a trust domain.
    #[error("bundle key {key:?} is not the ID of a trust domain")]
    BundleKey {
        /// The key.
        key: String,
    },
    /// A CRL that does not parse.
    #[error("CRL {index} does not parse")]
    Crl {
        /// Which one, from 0.
        index: usize,
    },
    /// A mandatory field without a value.
    #[error("{field} is empty")]
    Empty {
        /// The field, as the protocol names it.
        field: &'static str,
    },
    /// A SPIFFE ID that is none.
    #[error("{id:?} is not a SPIFFE ID")]
    Id {
        /// What was sent.
        id: String,
        /// The rule it breaks.
        #[source]
        source: IdError,
    },
    /// An SVID for another ID than the message says (conformance WA-23).
    #[error("message says {said}, its SVID is of {found}")]
    IdMismatch {
        /// The field `spiffe_id`.
        said: String,
        /// The ID in the SVID.
        found: String,
    },
    /// A JWT-SVID that its holder can not read.
    #[error("JWT-SVID of {id} does not parse")]
    Jwt {
        /// Whose token.
        id: String,
        /// What is wrong with it; never holds the token.
        #[source]
        source: JwtError,
    },
    /// An X509-SVID that does not load.
    #[error("X509-SVID of {id} does not load")]
    Svid {
        /// Whose SVID.
        id: String,
        /// What is wrong with it.
        #[source]
        source: X509SvidError,
    },
    /// An X509-SVID with a key that TLS can not use.
    #[error("X509-SVID can not be used for TLS")]
    Tls(#[from] crate::tls::TlsError),
}
