//! JWT-SVIDs: ES256, ES384 or RS256 as the authority's key says; header `alg`, `kid`, `typ` and nothing else.
//!
//! Source: JWT-SVID sections 2 and 3; RFC 7515, 7518 3.1, 3.3 and 3.4; conformance JS-01, JS-04, JS-06, JS-11 to JS-18.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_core::leaf::JwtGrant;
use chancery_daemon::key_type::KeyType;
use serde_json::{Map, Value, json};

use super::SignError;
use crate::keys::Signer;

/// Signs a grant; the compact form.
pub(super) fn sign(grant: &JwtGrant, kid: &str, issuer: Option<&str>, key: &dyn Signer) -> Result<String, SignError> {
    let (alg, form) = algorithm(key.key_type());
    let header = json!({ "alg": alg, "kid": kid, "typ": "JWT" });
    let mut claims = Map::new();
    claims.insert("sub".into(), grant.id().as_str().into());
    claims.insert("aud".into(), grant.audience().to_vec().into());
    claims.insert("exp".into(), grant.expires_at().0.into());
    claims.insert("iat".into(), grant.issued_at().0.into());
    if let Some(jti) = grant.jti() {
        claims.insert("jti".into(), jti.into());
    }
    if let Some(issuer) = issuer {
        claims.insert("iss".into(), issuer.into());
    }
    let body = format!("{}.{}", part(&header), part(&Value::Object(claims)));
    let signature = key.sign(body.as_bytes())?;
    let signature = match form {
        Form::AsIs => signature,
        Form::Coordinates(octets) => fixed(&signature, octets).ok_or(SignError::Mismatch("signature"))?,
    };
    Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// What a token carries of a signature.
enum Form {
    AsIs,
    /// r and s side by side, each of so many octets.
    Coordinates(usize),
}

fn algorithm(kind: KeyType) -> (&'static str, Form) {
    match kind {
        KeyType::EcP256 => ("ES256", Form::Coordinates(32)),
        KeyType::EcP384 => ("ES384", Form::Coordinates(48)),
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => ("RS256", Form::AsIs),
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// ECDSA-Sig-Value (DER) to r || s, each of `octets` bytes, big-endian.
fn fixed(der: &[u8], octets: usize) -> Option<Vec<u8>> {
    let (0x30, body, []) = element(der)? else { return None };
    let (0x02, r, rest) = element(body)? else { return None };
    let (0x02, s, []) = element(rest)? else { return None };
    let mut out = vec![0; 2 * octets];
    let (high, low) = out.split_at_mut(octets);
    for (number, half) in [(r, high), (s, low)] {
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        let pad = octets.checked_sub(digits.len())?;
        half.get_mut(pad..)?.copy_from_slice(digits);
    }
    Some(out)
}

/// Tag, content and rest of a DER element shorter than 128 bytes.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, len @ 0..=127, rest @ ..] = der else { return None };
    let (content, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_coordinates_are_padded_and_long_ones_refused() {
        let fixed_of =
            |der: &[u8]| fixed(der, 32).map(|f| (f[31], f[63], f.iter().map(|b| u32::from(*b)).sum::<u32>()));
        assert_eq!(fixed_of(&[0x30, 6, 2, 1, 7, 2, 1, 9]), Some((7, 9, 16)));
        assert_eq!(fixed_of(&[0x30, 6, 2, 1, 7, 2, 1, 9, 0]), None);
        let mut long = vec![0x30, 38, 2, 33, 1];
        long.extend([1; 32]);
        long.extend([2, 1, 1]);
        assert_eq!(fixed_of(&long), None);
    }
}
