use thiserror::Error;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;

/// Why the TPM gave nothing.
#[derive(Clone, Debug, Error)]
pub enum TpmError {
    /// Too many requests wait already.
    #[error("the TPM is busy: {0} requests wait")]
    Busy(usize),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The TPM answered with something that makes no sense.
    #[error("the TPM's answer makes no sense: {0}")]
    Nonsense(String),
    /// It refused a command, or cannot be reached.
    #[error("the TPM: {0}")]
    Refused(tss_esapi::Error),
    /// No answer within the deadline.
    #[error("the TPM did not answer within {0} s")]
    Slow(u64),
    /// It cannot be opened.
    #[error(
        "the TPM at {tcti} cannot be opened ({problem}); check that it exists, that this user may use it (group tss), and tpm.tcti"
    )]
    Unavailable {
        /// Where it was looked for.
        tcti: String,
        /// What the system says.
        problem: String,
    },
}

impl TpmError {
    /// Whether opening the TPM anew may help: a reset, a lost handle, a broken transport.
    ///
    /// Not so where the TPM judged what it was given; asking twice would only cost time, or a second
    /// strike of its dictionary-attack protection.
    pub(super) fn may_pass(&self) -> bool {
        let Self::Refused(tss_esapi::Error::Tss2Error(code)) = self else { return false };
        !matches!(
            code.kind(),
            Some(
                Kind::AuthFail
                    | Kind::BadAuth
                    | Kind::Integrity
                    | Kind::Value
                    | Kind::Size
                    | Kind::EccPoint
                    | Kind::Attributes
                    | Kind::PolicyFail
            )
        )
    }
}

impl From<tss_esapi::Error> for TpmError {
    fn from(error: tss_esapi::Error) -> Self {
        Self::Refused(error)
    }
}
