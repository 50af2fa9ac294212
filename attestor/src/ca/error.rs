use std::{io, time::Duration};

use chancery_proto::{google::rpc, spire::api::types::PermissionDeniedDetails};
use chancery_sdk::x509::VerifyError;
use prost::Message;
use rustls::{CertificateError, OtherError};
use thiserror::Error;
use tonic::{Code, Status};

use super::alive::Loss;

/// How long a server that has too much to do asks to wait, in milliseconds. Source: gRPC proposal A6, pushback.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Longest wait that is believed.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(10);
const DETAILS_TYPE: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// Why a call of the CA gave nothing.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum CaError {
    /// The CA has too much to do, and says when to come again.
    #[error("the CA has too much to do, and asks to wait {} ms", .0.as_millis())]
    Busy(Duration),
    /// The CA knows the node and says no; with a denial the node's own standing is meant, without one this request.
    #[error("the CA denied the call{}", .0.map(|d| format!(": {d}")).unwrap_or_default())]
    Denied(Option<Denial>),
    /// Nothing came of it: the CA is away or says "not now", the connection broke, or there is none yet. Try later.
    #[error("the CA cannot be asked now: {0}")]
    Lost(String),
    /// The CA answered with another status, or with an answer that makes no sense (`DataLoss`).
    #[error("the CA refused the call: {code:?}: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The CA's words.
        message: String,
    },
}

/// What the CA says of the node itself (SPIRE's `PermissionDeniedDetails`; spire-wire 1.0.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// An operator banned it.
    Banned,
    /// Its SVID ended while the connection was open.
    Expired,
    /// It cannot renew, it must attest.
    MustReattest,
    /// A newer SVID took the place of this one.
    NotActive,
    /// The CA does not know it (any more).
    NotAttested,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Banned => "the node is banned",
            Self::Expired => "the node SVID has expired",
            Self::MustReattest => "the node must attest again",
            Self::NotActive => "the node SVID was superseded",
            Self::NotAttested => "the node is not attested",
        })
    }
}

impl CaError {
    /// An answer that breaks the protocol.
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Refused { code: Code::DataLoss, message: what.into() }
    }
}

impl From<Status> for CaError {
    fn from(status: Status) -> Self {
        if let Some(loss) = Loss::of(&status) {
            return Self::Lost(loss.into_reason());
        }
        if status.code() == Code::PermissionDenied {
            return Self::Denied(denial(status.details()));
        }
        if let Some(wait) = pushback(&status) {
            return Self::Busy(wait);
        }
        Self::Refused { code: status.code(), message: status.message().into() }
    }
}

fn pushback(status: &Status) -> Option<Duration> {
    let asked = status.metadata().get(PUSHBACK).filter(|_| status.code() == Code::ResourceExhausted)?;
    let wait = Duration::from_millis(asked.to_str().ok()?.parse().ok()?);
    Some(wait.min(LONGEST_PUSHBACK))
}

fn denial(details: &[u8]) -> Option<Denial> {
    use chancery_proto::spire::api::types::permission_denied_details::Reason;
    let status = rpc::Status::decode(details).ok()?;
    let any = status.details.iter().find(|any| any.type_url == DETAILS_TYPE)?;
    match PermissionDeniedDetails::decode(any.value.as_slice()).ok()?.reason() {
        Reason::AgentBanned => Some(Denial::Banned),
        Reason::AgentExpired => Some(Denial::Expired),
        Reason::AgentMustReattest => Some(Denial::MustReattest),
        Reason::AgentNotActive => Some(Denial::NotActive),
        Reason::AgentNotAttested => Some(Denial::NotAttested),
        Reason::Unknown => None,
    }
}

/// Why no connection to the CA came about.
#[derive(Clone, Debug, Error)]
pub enum DialError {
    /// Somebody of our trust domain answers, and it is not the CA.
    #[error("{address} is not the CA ({problem}); correct ca_address")]
    Other {
        /// `host:port`.
        address: String,
        /// What tells.
        problem: String,
    },
    /// A fault of ours, not of the network.
    #[error("cannot dial: {0}")]
    Setup(String),
    /// The clocks differ, here or there.
    #[error("the certificate of the CA at {address} does not hold now ({problem}); set the clocks of both machines")]
    Time {
        /// `host:port`.
        address: String,
        /// What is wrong with its certificate.
        problem: String,
    },
    /// Nobody answers.
    #[error("the CA at {address} does not answer ({problem}); check that it runs and that ca_address is right")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// What the system says.
        problem: String,
    },
    /// Somebody answers, and it is not our CA.
    #[error(
        "the CA at {address} is not the one that trust_bundle vouches for ({problem}); replace the file with the output of `chancery-ca bundle show`"
    )]
    Untrusted {
        /// `host:port`.
        address: String,
        /// What is wrong with its certificate.
        problem: String,
    },
}

impl DialError {
    pub(super) fn unreachable(address: &str, error: &dyn std::error::Error) -> Self {
        Self::Unreachable { address: address.into(), problem: error.to_string() }
    }

    /// Whether somebody answered who is not our CA: no waiting helps, an operator has to.
    pub fn is_stranger(&self) -> bool {
        match self {
            Self::Other { .. } | Self::Untrusted { .. } => true,
            Self::Setup(_) | Self::Time { .. } | Self::Unreachable { .. } => false,
        }
    }

    /// rustls hands its verdict through `io::Error`, and ours through rustls.
    pub(super) fn handshake(address: &str, error: &io::Error) -> Self {
        let verdict = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(wrong)) = verdict else {
            return Self::unreachable(address, error);
        };
        let address = address.into();
        let fault = match wrong {
            CertificateError::ApplicationVerificationFailure => {
                return Self::Other { address, problem: "it is another member of the trust domain".into() };
            }
            CertificateError::Other(OtherError(fault)) => fault.downcast_ref::<VerifyError>(),
            _ => None,
        };
        let problem = fault.map_or_else(|| wrong.to_string(), ToString::to_string);
        match fault {
            Some(VerifyError::Expired { .. } | VerifyError::NotYetValid { .. }) => Self::Time { address, problem },
            _ => Self::Untrusted { address, problem },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_too_much_to_do_says_when_to_come_again_and_is_believed_within_reason() {
        let told = |code: Code, pushback: &'static str| {
            let mut status = Status::new(code, "full");
            status.metadata_mut().insert(PUSHBACK, pushback.parse().unwrap());
            CaError::from(status)
        };
        assert_eq!(told(Code::ResourceExhausted, "250"), CaError::Busy(Duration::from_millis(250)));
        assert_eq!(told(Code::ResourceExhausted, "99999999999"), CaError::Busy(LONGEST_PUSHBACK));
        for (code, pushback) in [(Code::ResourceExhausted, "-1"), (Code::InvalidArgument, "250")] {
            assert!(matches!(told(code, pushback), CaError::Refused { .. }), "{code:?} {pushback}");
        }
    }
}
