//! What may go wrong with a token, and what is done about each answer of a module.

use std::{path::PathBuf, time::Duration};

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};
use thiserror::Error as ThisError;

use super::{pin::PinError, uri::UriError};
use crate::key_type::KeyType;

/// Why a token cannot be opened, or a key in it not made, found or used.
#[derive(Clone, Debug, ThisError)]
pub enum TokenError {
    /// More than one key of a label.
    #[error("token: {count} {what}s are labelled {label}; which one is meant cannot be told. Remove the wrong one")]
    Ambiguous {
        /// The label.
        label: String,
        /// How many.
        count: usize,
        /// Private or public key.
        what: &'static str,
    },
    /// The token has another key protection than was asked for.
    #[error("token: the key labelled {label} is not used: {attribute} is not as it must be")]
    Attribute {
        /// The label.
        label: String,
        /// The attribute.
        attribute: &'static str,
    },
    /// The PIN was refused once, and is not tried again.
    #[error("token: {0}; the PIN is not tried again. Correct it and restart")]
    AuthFailed(String),
    /// Two signatures of a key did not verify.
    #[error("token: what the key labelled {0} signed does not verify; it was thrown away")]
    BadSignature(String),
    /// A value of the configuration.
    #[error("{0}")]
    Config(String),
    /// The label is taken.
    #[error("token: a key labelled {0} exists already; nothing was made")]
    Exists(String),
    /// Only one half of a pair is there.
    #[error("token: of the pair labelled {label} only the {present} is there. Remove it, or restore the other half")]
    HalfPair {
        /// The label.
        label: String,
        /// The half that is there.
        present: &'static str,
    },
    /// The process was forked after the module began.
    #[error("token: the module was initialised by another process; PKCS#11 does not survive a fork")]
    Forked,
    /// The module does not return.
    #[error("token: the module has not come back from {0}")]
    Hung(&'static str),
    /// A key that was there is not.
    #[error("token: no key is labelled {0} any more")]
    KeyMissing(String),
    /// The library.
    #[error("module = {path:?}: {why}; give the path of a PKCS#11 module")]
    Module {
        /// Its path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No token matches.
    #[error("uri: no token matches {uri}; {seen}")]
    NoToken {
        /// As configured.
        uri: String,
        /// What is there instead.
        seen: String,
    },
    /// The public half is not the one written down.
    #[error("token: the key labelled {0} has another public half than the one on record; it is not used")]
    OtherKey(String),
    /// Another token answers to the URI than at the start.
    #[error("uri: a token with serial {now:?} answers, at the start it was {then:?}; put that one back or restart")]
    OtherToken {
        /// Serial number now.
        now: String,
        /// Serial number at the start.
        then: String,
    },
    /// The queue is full.
    #[error("token: {0} calls wait already; try again later")]
    Overloaded(usize),
    /// The PIN cannot be read.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The module refused.
    #[error("token: {function} answers {code}")]
    Refused {
        /// The function.
        function: String,
        /// The code.
        code: String,
    },
    /// More than one token matches.
    #[error("uri: {count} tokens match {uri}: {seen}; add serial= or slot-id=")]
    SeveralTokens {
        /// As configured.
        uri: String,
        /// How many.
        count: usize,
        /// Which.
        seen: String,
    },
    /// The call took too long.
    #[error("token: no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The token is away; it is looked for all the time.
    #[error("token: away ({0}); it is looked for")]
    Unavailable(String),
    /// The token has no such keys.
    #[error("token: it makes no {kind} keys ({why})")]
    Unsupported {
        /// Asked for.
        kind: KeyType,
        /// What it answered.
        why: String,
    },
    /// The URI.
    #[error(transparent)]
    Uri(#[from] UriError),
}

impl TokenError {
    /// Whether the same call may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Hung(_) | Self::NoToken { .. } | Self::Overloaded(_) | Self::Timeout(_) | Self::Unavailable(_)
        )
    }
}

/// What is done about an answer. Each is done once for one call, `Busy` three times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// The PIN is wrong, locked or expired: never again.
    Auth,
    /// Wait a little.
    Busy,
    /// Log in again.
    Login,
    /// Nothing helps.
    Never,
    /// Look the key up again.
    Refind,
    /// Finalize and initialize the module.
    Reinit,
    /// Open a new session.
    Reopen,
    /// New session and new look-up.
    Unclear,
}

/// Why an operation of a seat ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The module's answer, to be judged by [`classify`].
    Call(Error),
    /// The token is not where it was.
    Gone(TokenError),
    /// Our own verdict, final.
    Final(TokenError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Self {
        Self::Final(error)
    }
}

/// The table of the module's answers. Source: measured on four modules; PKCS#11 v3.1, 5.1.
pub(super) fn classify(error: &Error) -> Class {
    use RvError as R;
    let Error::Pkcs11(code, _) = error else { return Class::Never };
    match code {
        R::SessionHandleInvalid | R::SessionClosed | R::OperationActive | R::OperationNotInitialized => Class::Reopen,
        R::UserNotLoggedIn => Class::Login,
        R::KeyHandleInvalid | R::ObjectHandleInvalid => Class::Refind,
        R::GeneralError | R::FunctionFailed => Class::Unclear,
        R::CryptokiNotInitialized
        | R::DeviceError
        | R::DeviceRemoved
        | R::TokenNotPresent
        | R::TokenNotRecognized
        | R::SlotIdInvalid => Class::Reinit,
        R::SessionCount | R::HostMemory | R::DeviceMemory | R::FunctionCanceled => Class::Busy,
        R::PinIncorrect
        | R::PinInvalid
        | R::PinLenRange
        | R::PinExpired
        | R::PinLocked
        | R::PinTooWeak
        | R::UserPinNotInitialized => Class::Auth,
        // Everything else says that the call itself is wrong, or is a vendor's own.
        _ => Class::Never,
    }
}

/// The answer as an operator reads it.
pub(super) fn refused(error: &Error) -> TokenError {
    match error {
        Error::Pkcs11(code, function) => TokenError::Refused { function: name(*function), code: ckr(code) },
        other => TokenError::Refused { function: "the module".into(), code: other.to_string() },
    }
}

fn name(function: Function) -> String {
    format!("C_{function:?}")
}

/// `CKR_` and the name in the standard's form.
pub(super) fn ckr(code: &RvError) -> String {
    let debug = format!("{code:?}");
    let mut out = String::from("CKR");
    for c in debug.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_by_their_standard_names() {
        assert_eq!(ckr(&RvError::SessionHandleInvalid), "CKR_SESSION_HANDLE_INVALID");
        let told = refused(&Error::Pkcs11(RvError::MechanismInvalid, Function::SignInit)).to_string();
        assert_eq!(told, "token: C_SignInit answers CKR_MECHANISM_INVALID");
    }

    #[test]
    fn every_row_of_the_table_has_its_class() {
        use RvError as R;
        let rows: [(Class, &[R]); 8] = [
            (
                Class::Reopen,
                &[R::SessionHandleInvalid, R::SessionClosed, R::OperationActive, R::OperationNotInitialized],
            ),
            (Class::Login, &[R::UserNotLoggedIn]),
            (Class::Refind, &[R::KeyHandleInvalid, R::ObjectHandleInvalid]),
            (Class::Unclear, &[R::GeneralError, R::FunctionFailed]),
            (
                Class::Reinit,
                &[
                    R::CryptokiNotInitialized,
                    R::DeviceError,
                    R::DeviceRemoved,
                    R::TokenNotPresent,
                    R::TokenNotRecognized,
                    R::SlotIdInvalid,
                ],
            ),
            (Class::Busy, &[R::SessionCount, R::HostMemory, R::DeviceMemory, R::FunctionCanceled]),
            (Class::Auth, &[R::PinIncorrect, R::PinLocked, R::PinExpired]),
            (
                Class::Never,
                &[
                    R::MechanismInvalid,
                    R::KeyTypeInconsistent,
                    R::KeyFunctionNotPermitted,
                    R::AttributeValueInvalid,
                    R::DataLenRange,
                    R::VendorDefined(0x8000_0001),
                ],
            ),
        ];
        for (class, codes) in rows {
            for code in codes {
                assert_eq!(classify(&Error::Pkcs11(*code, Function::Sign)), class, "{code:?}");
            }
        }
        assert_eq!(classify(&Error::NotSupported), Class::Never);
    }
}
