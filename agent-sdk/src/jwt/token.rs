use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Number, Value};

use super::{algorithm::Algorithm, error::JwtError};
use crate::{id::SpiffeId, json::Members, time::UnixTime};

/// Bytes of a token; HTTP servers take header lines of 8 to 16 KiB.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// A token taken apart: every rule on its form is met, no signature is checked.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    /// Header and payload with the dot between them, as signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) claims: Claims,
}

/// The claims that JWT-SVID gives a meaning, and all of them as sent.
pub(super) struct Claims {
    pub(super) sub: SpiffeId,
    /// At least one, none empty.
    pub(super) aud: Vec<String>,
    pub(super) exp: UnixTime,
    pub(super) nbf: Option<UnixTime>,
    pub(super) iat: Option<UnixTime>,
    pub(super) all: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a JWS in compact form apart; the header's `alg` is judged before anything else is decoded.
    ///
    /// Source: RFC 7515 sections 3.1 and 5.2; conformance JS-01 to JS-13.
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong { len: token.len(), max: MAX_TOKEN_BYTES });
        }
        let not_compact = JwtError::Malformed("not three parts with a dot between them");
        let (signed, signature) = token.rsplit_once('.').ok_or(not_compact.clone())?;
        let (header, payload) = signed.split_once('.').ok_or(not_compact.clone())?;
        if payload.contains('.') {
            return Err(not_compact);
        }
        let (algorithm, kid) = judge_header(&object(header)?)?;
        let signature = decode(signature)?;
        let claims = Claims::read(object(payload)?)?;
        Ok(Self { algorithm, kid, signed, signature, claims })
    }
}

/// Judges `alg`, then `crit`, `typ` and `kid`; other members, keys among them, have no meaning here (CF-11).
fn judge_header(header: &Map<String, Value>) -> Result<(Algorithm, String), JwtError> {
    let name = header.get("alg").and_then(Value::as_str);
    let algorithm = name.and_then(Algorithm::from_name).ok_or(JwtError::UnsupportedAlg)?;
    if header.contains_key("crit") {
        return Err(JwtError::CriticalHeader);
    }
    match header.get("typ").map(Value::as_str) {
        None | Some(Some("JWT" | "JOSE")) => {}
        Some(_) => return Err(JwtError::BadTyp),
    }
    match header.get("kid").map(Value::as_str) {
        None | Some(Some("")) => Err(JwtError::MissingKeyId),
        Some(Some(kid)) => Ok((algorithm, kid.to_owned())),
        Some(None) => Err(JwtError::Malformed("kid is no string")),
    }
}

impl Claims {
    fn read(all: Map<String, Value>) -> Result<Self, JwtError> {
        let sub = match all.get("sub") {
            None => return Err(JwtError::MissingSub),
            Some(Value::String(sub)) => SpiffeId::parse(sub).map_err(JwtError::InvalidSub)?,
            Some(_) => return Err(JwtError::Malformed("sub is no string")),
        };
        let aud = audiences(all.get("aud"))?;
        // Rounded against the holder: a token never lives longer, or begins earlier, than it says.
        let exp = date(&all, "exp", f64::floor)?.ok_or(JwtError::MissingExp)?;
        let nbf = date(&all, "nbf", f64::ceil)?;
        let iat = date(&all, "iat", f64::floor)?;
        Ok(Self { sub, aud, exp, nbf, iat, all })
    }
}

/// Reads `aud`, one string or several (JS-21, CF-10); empty strings name nobody.
fn audiences(aud: Option<&Value>) -> Result<Vec<String>, JwtError> {
    let bad = || JwtError::Malformed("aud is neither a string nor an array of strings");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut all = match aud {
        None => Vec::new(),
        Some(Value::Array(many)) => many.iter().map(text).collect::<Option<Vec<_>>>().ok_or_else(bad)?,
        Some(one) => vec![text(one).ok_or_else(bad)?],
    };
    all.retain(|audience| !audience.is_empty());
    if all.is_empty() { Err(JwtError::MissingAud) } else { Ok(all) }
}

/// Reads a NumericDate: an integer, a fraction or with an exponent (JS-29).
fn date(claims: &Map<String, Value>, name: &str, round: fn(f64) -> f64) -> Result<Option<UnixTime>, JwtError> {
    let seconds = |number: &Number| match number.as_i64() {
        Some(whole) => whole,
        // `as` holds floats at the ends of the range.
        None => round(number.as_f64().unwrap_or(f64::MAX)) as i64,
    };
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(UnixTime(seconds(number)))),
        Some(_) => Err(JwtError::Malformed("a date is no number")),
    }
}

fn object(part: &str) -> Result<Map<String, Value>, JwtError> {
    Members::parse(&decode(part)?).ok_or(JwtError::Malformed("a part is no JSON object with unique names"))
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed("a part is no base64url without padding"))
}
