use std::fmt;

use serde_json::{Map, Value};

use super::{
    JwtBundleSet, JwtKey,
    algorithm::Check,
    error::JwtError,
    token::{Claims, Token},
};
use crate::{id::SpiffeId, time::UnixTime};

/// Clock difference a verifier may grant; more would keep dead tokens alive.
const MAX_LEEWAY_SECS: u64 = 300;

/// A verified JWT-SVID; only [`JwtSvid::verify`] makes it, and it does not hold the token.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct JwtSvid {
    /// The identity proven (`sub`).
    pub id: SpiffeId,
    /// Whom the token is for; at least one, none empty.
    pub audience: Vec<String>,
    /// The token is dead from this second on (`exp`).
    pub expires_at: UnixTime,
    /// When it was made (`iat`), as its issuer says.
    pub issued_at: Option<UnixTime>,
    /// Every claim as sent; those beyond the registered ones mean what the issuing domain says (ID-38).
    pub claims: Map<String, Value>,
}

impl JwtSvid {
    /// Verifies a token for `audience`, the verifier's own name.
    ///
    /// `leeway_secs` is granted on `exp` and `nbf`, at most 300; `iat` is not judged.
    ///
    /// # Errors
    /// [`JwtError`] saying what is not trusted.
    ///
    /// Source: JWT-SVID sections 2 to 5; conformance JS-01 to JS-38, CF-02, CF-11, CF-14.
    pub fn verify(
        token: &str,
        bundles: &JwtBundleSet,
        audience: &str,
        now: UnixTime,
        leeway_secs: u64,
    ) -> Result<Self, JwtError> {
        if audience.is_empty() {
            return Err(JwtError::NoExpectedAudience);
        }
        let token = Token::parse(token)?;
        verify_signature(&token, bundles)?;
        let claims = token.claims;
        check_times(&claims, now, leeway_secs)?;
        if !claims.aud.iter().any(|named| named == audience) {
            return Err(JwtError::AudienceMismatch(audience.to_owned()));
        }
        let Claims { sub, aud, exp, iat, all, .. } = claims;
        Ok(Self { id: sub, audience: aud, expires_at: exp, issued_at: iat, claims: all })
    }
}

/// Checks the signature with the key that the bundle of `sub`'s own domain holds under the token's `kid`.
fn verify_signature(token: &Token<'_>, bundles: &JwtBundleSet) -> Result<(), JwtError> {
    let trust_domain = token.claims.sub.trust_domain();
    let bundle = match bundles.get(&trust_domain) {
        Some(bundle) if !bundle.is_empty() => bundle,
        _ => return Err(JwtError::NoBundleForTrustDomain(trust_domain)),
    };
    let kid = token.kid.clone();
    let Some(key) = bundle.key(&kid) else { return Err(JwtError::UnknownKey { kid, trust_domain }) };
    match token.algorithm.verify(JwtKey::key(key), token.signed.as_bytes(), &token.signature) {
        Check::KeyDoesNotFit => Err(JwtError::AlgDoesNotFitKey { alg: token.algorithm.name(), kid }),
        Check::Refused => Err(JwtError::BadSignature(kid)),
        Check::Verified => Ok(()),
    }
}

fn check_times(claims: &Claims, now: UnixTime, leeway_secs: u64) -> Result<(), JwtError> {
    let leeway = i64::try_from(leeway_secs.min(MAX_LEEWAY_SECS)).unwrap_or(0);
    if claims.exp.plus(leeway) <= now {
        return Err(JwtError::Expired { expires_at: claims.exp, now });
    }
    match claims.nbf {
        Some(not_before) if not_before > now.plus(leeway) => Err(JwtError::NotYetValid { not_before, now }),
        _ => Ok(()),
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, audience, expires_at, .. } = self;
        write!(f, "JwtSvid({id} for {audience:?} until {expires_at})")
    }
}

/// What a token says of itself; nothing of it is proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unverified {
    /// `sub`.
    pub id: SpiffeId,
    /// `aud`; at least one, none empty.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires_at: UnixTime,
    /// `iat`.
    pub issued_at: Option<UnixTime>,
}

/// Reads a token that its holder was given by its own Workload API; never a way to accept a peer's.
///
/// # Errors
/// [`JwtError`] if the token has not the form of a JWT-SVID.
pub fn peek_unverified(token: &str) -> Result<Unverified, JwtError> {
    let Claims { sub, aud, exp, iat, .. } = Token::parse(token)?.claims;
    Ok(Unverified { id: sub, audience: aud, expires_at: exp, issued_at: iat })
}
