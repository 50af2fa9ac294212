//! JWT messages of the Workload API.

use std::fmt;

use chancery_proto::workload::{JwtBundlesResponse, Jwtsvid, JwtsvidResponse, ValidateJwtsvidResponse};
use prost_types::value::Kind;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    UpdateError,
    update::{domain_of_key, read_id},
};
use crate::{
    id::SpiffeId,
    jwt::{JwtBundle, JwtBundleSet, peek_unverified},
    time::UnixTime,
};

/// A JWT-SVID of our own, to be shown to whoever is its audience.
///
/// Whoever has the token is taken for us until it expires: it is not printed by `Debug`.
#[derive(Clone)]
pub struct JwtToken {
    token: Zeroizing<String>,
    id: SpiffeId,
    hint: String,
    expires_at: UnixTime,
}

impl JwtToken {
    /// The compact form, for an `Authorization: Bearer` header.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Who it says we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The operator's label for the identity; empty when there is none.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// When it ends.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }
}

impl fmt::Debug for JwtToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtToken").field("id", &self.id).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Reads an answer of `FetchJWTSVID`; the default identity's token is first.
///
/// Source: Workload API section 6; conformance WA-43, WA-45, CF-15.
pub(super) fn read_tokens(message: JwtsvidResponse) -> Result<Vec<JwtToken>, UpdateError> {
    if message.svids.is_empty() {
        return Err(UpdateError::Empty { field: "svids" });
    }
    let mut tokens: Vec<JwtToken> = Vec::with_capacity(message.svids.len());
    for sent in message.svids {
        let token = read_token(sent)?;
        if token.hint.is_empty() || tokens.iter().all(|earlier| earlier.hint != token.hint) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

fn read_token(sent: Jwtsvid) -> Result<JwtToken, UpdateError> {
    let token = Zeroizing::new(sent.svid);
    if sent.spiffe_id.is_empty() {
        return Err(UpdateError::Empty { field: "spiffe_id" });
    }
    if token.is_empty() {
        return Err(UpdateError::Empty { field: "svid" });
    }
    let id = read_id(&sent.spiffe_id)?;
    let peeked = peek_unverified(&token).map_err(|source| UpdateError::Jwt { id: sent.spiffe_id, source })?;
    if peeked.id != id {
        return Err(UpdateError::IdMismatch { said: id.to_string(), found: peeked.id.to_string() });
    }
    Ok(JwtToken { token, id, hint: sent.hint, expires_at: peeked.expires_at })
}

/// Everything `FetchJWTBundles` says at one time.
///
/// These keys verify tokens and X.509 bundles verify certificates; the types do not mix
/// (conformance WA-21, WA-49):
/// ```compile_fail,E0308
/// # use chancery_sdk::{jwt::JwtSvid, time::UnixTime, x509::X509BundleSet};
/// JwtSvid::verify("token", &X509BundleSet::new(), "audience", UnixTime(0), 0);
/// ```
/// ```compile_fail,E0308
/// # use chancery_sdk::{jwt::JwtBundleSet, time::UnixTime, x509};
/// x509::verify(&[], &JwtBundleSet::new(), UnixTime(0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct JwtBundles {
    /// The bundles, by domain.
    pub bundles: JwtBundleSet,
}

impl JwtBundles {
    pub(super) fn read(message: JwtBundlesResponse) -> Result<Self, UpdateError> {
        if message.bundles.is_empty() {
            return Err(UpdateError::Empty { field: "bundles" });
        }
        let mut bundles = JwtBundleSet::new();
        for (key, jwks) in message.bundles {
            let domain = domain_of_key(&key)?;
            let bundle = JwtBundle::from_jwks(domain, &jwks)
                .map_err(|source| UpdateError::Bundle { trust_domain: key, source: Box::new(source) })?;
            bundles.insert(bundle);
        }
        Ok(Self { bundles })
    }
}

/// A token that the Workload API has validated for one audience.
#[derive(Clone, Debug)]
pub struct ValidatedJwt {
    /// Whom the token speaks for.
    pub id: SpiffeId,
    /// Its claims; numbers come as floats, since the protocol's `Struct` has no others.
    pub claims: Map<String, Value>,
}

pub(super) fn read_validated(message: ValidateJwtsvidResponse) -> Result<ValidatedJwt, UpdateError> {
    if message.spiffe_id.is_empty() {
        return Err(UpdateError::Empty { field: "spiffe_id" });
    }
    let Some(claims) = message.claims else { return Err(UpdateError::Empty { field: "claims" }) };
    let claims = claims.fields.into_iter().map(|(name, value)| (name, json(value))).collect();
    Ok(ValidatedJwt { id: read_id(&message.spiffe_id)?, claims })
}

/// Protobuf's JSON value as serde's. Depth is bounded by prost, which decodes at most 100 levels.
fn json(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::StructValue(value)) => value.fields.into_iter().map(|(name, value)| (name, json(value))).collect(),
    }
}
