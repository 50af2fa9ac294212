//! Keys by label: exactly one pair, its public half in our one encoding.

use cryptoki::{
    object::{Attribute, AttributeType, KeyType as TokenKeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use super::error::{Fault, TokenError};
use crate::{
    key_type::KeyType,
    public_key::{PublicKey, element},
};

/// Most objects looked at by [`labels`].
const MAX_OBJECTS: usize = 100_000;

/// A pair in the token.
pub(super) struct Pair {
    pub private: ObjectHandle,
    pub public: PublicKey,
    /// `CKA_ID` of the private key, as the token keeps it.
    pub id: Vec<u8>,
}

/// The halves labelled `label`.
pub(super) struct Halves {
    pub private: Vec<ObjectHandle>,
    pub public: Vec<ObjectHandle>,
}

pub(super) fn halves(session: &Session, label: &str) -> Result<Halves, Fault> {
    let of = |class| session.find_objects(&[Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())]);
    Ok(Halves { private: of(ObjectClass::PRIVATE_KEY)?, public: of(ObjectClass::PUBLIC_KEY)? })
}

/// The one pair of a label; `None` where there is nothing.
pub(super) fn pair(session: &Session, label: &str) -> Result<Option<Pair>, Fault> {
    let found = halves(session, label)?;
    let several = |count, what| Fault::Final(TokenError::Ambiguous { label: label.into(), count, what });
    let half = |present| Fault::Final(TokenError::HalfPair { label: label.into(), present });
    match (found.private.as_slice(), found.public.as_slice()) {
        ([], []) => Ok(None),
        ([private], [public]) => {
            let public = public_key(session, *public, label)?;
            let id = id(session, *private)?;
            Ok(Some(Pair { private: *private, public, id }))
        }
        ([_], []) => Err(half("private key")),
        ([], [_]) => Err(half("public key")),
        (private, public) if private.len() >= public.len() => Err(several(private.len(), "private key")),
        (_, public) => Err(several(public.len(), "public key")),
    }
}

/// The private key of a pair whose public half is known already; signatures are verified with that half.
pub(super) fn private(session: &Session, label: &str, id: &[u8]) -> Result<ObjectHandle, Fault> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
    if !id.is_empty() {
        template.push(Attribute::Id(id.to_vec()));
    }
    match session.find_objects(&template)?.as_slice() {
        [] => Err(Fault::Final(TokenError::KeyMissing(label.into()))),
        [one] => Ok(*one),
        more => {
            let (label, count) = (label.into(), more.len());
            Err(Fault::Final(TokenError::Ambiguous { label, count, what: "private key" }))
        }
    }
}

/// The public half, built from point or modulus: `CKA_PUBLIC_KEY_INFO` is empty on half of the modules.
pub(super) fn public_key(session: &Session, handle: ObjectHandle, label: &str) -> Result<PublicKey, Fault> {
    let wrong = |attribute| Fault::Final(TokenError::Attribute { label: label.into(), attribute });
    let kind = session.get_attributes(handle, &[AttributeType::KeyType])?;
    let Some(Attribute::KeyType(kind)) = kind.first() else { return Err(wrong("CKA_KEY_TYPE")) };
    if *kind == TokenKeyType::EC {
        let read = session.get_attributes(handle, &[AttributeType::EcParams, AttributeType::EcPoint])?;
        let [Attribute::EcParams(curve), Attribute::EcPoint(point)] = read.as_slice() else {
            return Err(wrong("CKA_EC_POINT"));
        };
        let kind = curve_of(curve).ok_or_else(|| wrong("CKA_EC_PARAMS"))?;
        return point_of(kind, point).ok_or_else(|| wrong("CKA_EC_POINT"));
    }
    if *kind != TokenKeyType::RSA {
        return Err(wrong("CKA_KEY_TYPE"));
    }
    let read = session.get_attributes(handle, &[AttributeType::Modulus, AttributeType::PublicExponent])?;
    let [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)] = read.as_slice() else {
        return Err(wrong("CKA_MODULUS"));
    };
    if exponent.iter().skip_while(|b| **b == 0).ne([1, 0, 1].iter()) {
        return Err(wrong("CKA_PUBLIC_EXPONENT"));
    }
    PublicKey::from_modulus(modulus).ok_or_else(|| wrong("CKA_MODULUS"))
}

/// Labels that begin with `prefix`, of private keys.
pub(super) fn labels(session: &Session, prefix: &str) -> Result<Vec<String>, Fault> {
    let mut labels = Vec::new();
    let handles: Vec<_> = session
        .iter_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)])?
        .take(MAX_OBJECTS)
        .collect::<Result<_, _>>()?;
    for handle in handles {
        let read = session.get_attributes(handle, &[AttributeType::Label])?;
        if let Some(Attribute::Label(bytes)) = read.first()
            && let Ok(label) = std::str::from_utf8(bytes)
            && label.starts_with(prefix)
        {
            labels.push(label.to_owned());
        }
    }
    Ok(labels)
}

fn id(session: &Session, handle: ObjectHandle) -> Result<Vec<u8>, Fault> {
    match session.get_attributes(handle, &[AttributeType::Id])?.pop() {
        Some(Attribute::Id(id)) => Ok(id),
        _ => Ok(Vec::new()),
    }
}

/// DER OIDs of the two curves.
pub(super) const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
pub(super) const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";

fn curve_of(params: &[u8]) -> Option<KeyType> {
    match params {
        P256 => Some(KeyType::EcP256),
        P384 => Some(KeyType::EcP384),
        _ => None,
    }
}

/// The point is wrapped in an OCTET STRING on most modules, and bare on some.
fn point_of(kind: KeyType, bytes: &[u8]) -> Option<PublicKey> {
    if let Some((0x04, point, [])) = element(bytes)
        && let Some(key) = PublicKey::from_point(kind, point)
    {
        return Some(key);
    }
    PublicKey::from_point(kind, bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    #[test]
    fn points_are_taken_wrapped_and_bare_and_only_on_the_curve() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let wrapped = crate::public_key::value(0x04, point);
        let bare = point_of(KeyType::EcP256, point).unwrap();
        assert_eq!(point_of(KeyType::EcP256, &wrapped).unwrap().spki(), bare.spki());
        assert!(point_of(KeyType::EcP384, &wrapped).is_none());
        assert!(point_of(KeyType::EcP256, &[wrapped.as_slice(), &[0]].concat()).is_none());
        let mut off = wrapped;
        off[40] ^= 1;
        assert!(point_of(KeyType::EcP256, &off).is_none());
        assert_eq!(
            (curve_of(P256), curve_of(P384), curve_of(b"")),
            (Some(KeyType::EcP256), Some(KeyType::EcP384), None)
        );
    }
}
