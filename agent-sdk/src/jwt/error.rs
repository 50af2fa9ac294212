use thiserror::Error;

use crate::{
    id::{IdError, TrustDomain},
    time::UnixTime,
};

/// Why a token is not trusted; the text never holds a part of the token but its key name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[allow(missing_docs, reason = "fields repeat the variant's sentence")]
pub enum JwtError {
    /// The key is of another type or curve than the algorithm (JS-10).
    #[error("key '{kid}' is not of the kind that {alg} takes")]
    AlgDoesNotFitKey { alg: &'static str, kid: String },
    /// The verifier's own audience is not one of the token's (JS-20).
    #[error("token is not for audience '{0}'")]
    AudienceMismatch(String),
    /// The signature is not the key's.
    #[error("signature is not of key '{0}'")]
    BadSignature(String),
    /// `typ` is neither absent, `JWT` nor `JOSE` (JS-13).
    #[error("header typ must be absent, 'JWT' or 'JOSE'")]
    BadTyp,
    /// A `crit` header: an extension that must be understood, and none is (JS-05).
    #[error("header names critical extensions, none is supported")]
    CriticalHeader,
    /// Its time is over.
    #[error("token ended at {expires_at}, it is {now}")]
    Expired { expires_at: UnixTime, now: UnixTime },
    /// `sub` is no SPIFFE ID (JS-17).
    #[error("sub is no SPIFFE ID: {0}")]
    InvalidSub(#[source] IdError),
    /// Not a JWS in compact form, or a member of the wrong type.
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    /// No `aud`, or only empty ones (JS-19).
    #[error("token has no aud")]
    MissingAud,
    /// No `exp` (JS-25).
    #[error("token has no exp")]
    MissingExp,
    /// No `kid` (JS-12, CF-02).
    #[error("token names no key (kid)")]
    MissingKeyId,
    /// No `sub` (JS-17).
    #[error("token has no sub")]
    MissingSub,
    /// No bundle of the token's own trust domain, or one without JWT keys (JS-31, JS-38).
    #[error("no JWT key is known for trust domain {0}")]
    NoBundleForTrustDomain(TrustDomain),
    /// The caller asked for no audience, which would welcome tokens meant for others (JS-19).
    #[error("verifier must name the audience it is")]
    NoExpectedAudience,
    /// Its time has not come.
    #[error("token begins at {not_before}, it is {now}")]
    NotYetValid { not_before: UnixTime, now: UnixTime },
    /// More bytes than a verifier is willing to read.
    #[error("token of {len} bytes exceeds {max}")]
    TooLong { len: usize, max: usize },
    /// The trust domain's bundle holds no key of that name (JS-30).
    #[error("trust domain {trust_domain} has no JWT key '{kid}'")]
    UnknownKey { kid: String, trust_domain: TrustDomain },
    /// `alg` is none of the nine (JS-07).
    #[error("header alg is none of RS, ES, PS with 256, 384, 512")]
    UnsupportedAlg,
}
