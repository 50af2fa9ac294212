//! Public halves of signing keys: one encoding each, and the one check of their signatures.
//!
//! Every key store answers with these, so what a token reports, what the journal holds and what a
//! certificate carries are compared byte by byte.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

use crate::key_type::KeyType;

/// SubjectPublicKeyInfo up to the point: id-ecPublicKey with the curve's OID, then the BIT STRING's head.
const P256_HEAD: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                           \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384_HEAD: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                           \x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
/// AlgorithmIdentifier rsaEncryption with NULL.
const RSA_ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// Public exponent 65537, the only one accepted: DER INTEGER.
const EXPONENT: &[u8] = b"\x02\x03\x01\x00\x01";

/// The public half of a signing key, checked: on its curve, or of its size with exponent 65537.
#[derive(Clone)]
pub struct PublicKey {
    kind: KeyType,
    spki: Vec<u8>,
    /// Where the subject public key begins in `spki`.
    bits_at: usize,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Reads DER SubjectPublicKeyInfo in the one encoding this crate writes; `None` for anything else.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        for (kind, head) in [(KeyType::EcP256, P256_HEAD), (KeyType::EcP384, P384_HEAD)] {
            if let Some(point) = spki.strip_prefix(head) {
                return Self::from_point(kind, point);
            }
        }
        let (0x30, body, []) = element(spki)? else { return None };
        let (0x03, bits, []) = element(body.strip_prefix(RSA_ALGORITHM)?)? else { return None };
        let key = Self::from_pkcs1(bits.strip_prefix(&[0])?)?;
        (key.spki == spki).then_some(key)
    }

    /// An uncompressed point of `kind`'s curve.
    pub fn from_point(kind: KeyType, point: &[u8]) -> Option<Self> {
        let (head, len) = match kind {
            KeyType::EcP256 => (P256_HEAD, 65),
            KeyType::EcP384 => (P384_HEAD, 97),
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => return None,
        };
        (point.len() == len && point.first() == Some(&4)).then_some(())?;
        Self::parse(kind, [head, point].concat(), head.len())
    }

    /// An RSA modulus, big-endian, leading zeros allowed, of 2048, 3072 or 4096 bits; the exponent is 65537.
    pub fn from_modulus(modulus: &[u8]) -> Option<Self> {
        let zeros = modulus.iter().take_while(|b| **b == 0).count();
        let digits = modulus.get(zeros..)?;
        let bits = digits.len() * 8 - usize::try_from(digits.first()?.leading_zeros()).ok()?;
        let kind = KeyType::ALL.into_iter().find(|kind| kind.modulus_bits() == Some(bits))?;
        let number = value(0x02, &[&[0], digits].concat());
        let bits = [&[0], value(0x30, &[number.as_slice(), EXPONENT].concat()).as_slice()].concat();
        let bits_len = bits.len() - 1;
        let spki = value(0x30, &[RSA_ALGORITHM, value(0x03, &bits).as_slice()].concat());
        let bits_at = spki.len() - bits_len;
        Self::parse(kind, spki, bits_at)
    }

    /// RSAPublicKey of PKCS #1, DER.
    pub fn from_pkcs1(der: &[u8]) -> Option<Self> {
        let (0x30, body, []) = element(der)? else { return None };
        let (0x02, modulus, exponent) = element(body)? else { return None };
        (exponent == EXPONENT).then_some(())?;
        Self::from_modulus(modulus)
    }

    fn parse(kind: KeyType, spki: Vec<u8>, bits_at: usize) -> Option<Self> {
        let parsed = ParsedPublicKey::new(algorithm(kind), spki.get(bits_at..)?).ok()?;
        Some(Self { kind, spki, bits_at, parsed })
    }

    /// Its kind.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Content of the subjectPublicKey BIT STRING: the uncompressed point, or PKCS #1 RSAPublicKey.
    pub fn bits(&self) -> &[u8] {
        self.spki.get(self.bits_at..).unwrap_or_default()
    }

    /// Whether `signature` (DER ECDSA-Sig-Value, or PKCS #1 v1.5) over `message` is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn algorithm(kind: KeyType) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyType::EcP256 => &ECDSA_P256_SHA256_ASN1,
        KeyType::EcP384 => &ECDSA_P384_SHA384_ASN1,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &RSA_PKCS1_2048_8192_SHA256,
    }
}

/// Tag, content and rest of one DER element below 64 KiB with the shortest length.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, len, rest) = match der {
        [tag, len @ 0..=0x7f, rest @ ..] => (*tag, usize::from(*len), rest),
        [tag, 0x81, len @ 0x80..=0xff, rest @ ..] => (*tag, usize::from(*len), rest),
        [tag, 0x82, high @ 1..=0xff, low, rest @ ..] => (*tag, usize::from(*high) << 8 | usize::from(*low), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// One DER element; `content` is below 64 KiB.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, ..0x80) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    fn points() -> [(KeyType, Vec<u8>); 2] {
        [(KeyType::EcP256, &ECDSA_P256_SHA256_ASN1_SIGNING), (KeyType::EcP384, &ECDSA_P384_SHA384_ASN1_SIGNING)]
            .map(|(kind, algorithm)| (kind, EcdsaKeyPair::generate(algorithm).unwrap().public_key().as_ref().to_vec()))
    }

    #[test]
    fn each_encoding_is_read_back_and_nothing_beside_it() {
        let mut keys: Vec<_> = points().iter().map(|(kind, p)| PublicKey::from_point(*kind, p).unwrap()).collect();
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        keys.push(PublicKey::from_pkcs1(rsa.public_key().as_ref()).unwrap());
        for key in keys {
            let again = PublicKey::from_spki(key.spki()).unwrap();
            assert_eq!((again.kind(), again.spki(), again.bits()), (key.kind(), key.spki(), key.bits()));
            assert!(PublicKey::from_spki(&[key.spki(), &[0]].concat()).is_none(), "{key:?}: trailing byte");
            assert!(PublicKey::from_spki(&key.spki()[1..]).is_none(), "{key:?}: cut");
        }
    }

    #[test]
    fn rsa_encoding_is_what_openssl_writes_too() {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa3072).unwrap();
        let theirs: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        let ours = PublicKey::from_pkcs1(rsa.public_key().as_ref()).unwrap();
        assert_eq!(hex(ours.spki()), hex(theirs.as_ref()));
        assert_eq!((ours.kind(), ours.bits()), (KeyType::Rsa3072, rsa.public_key().as_ref()));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn points_off_the_curve_at_infinity_or_of_the_other_curve_are_no_keys() {
        for (kind, mut point) in points() {
            let other = if kind == KeyType::EcP256 { KeyType::EcP384 } else { KeyType::EcP256 };
            assert!(PublicKey::from_point(other, &point).is_none());
            *point.last_mut().unwrap() ^= 1;
            assert!(PublicKey::from_point(kind, &point).is_none());
            assert!(PublicKey::from_point(kind, &[0]).is_none());
        }
    }

    #[test]
    fn moduli_of_other_sizes_and_other_exponents_are_no_keys() {
        assert!(PublicKey::from_modulus(&[0xff; 128]).is_none(), "1024 bits");
        assert!(PublicKey::from_modulus(&[]).is_none());
        assert!(PublicKey::from_modulus(&[0; 4]).is_none());
        let three = value(0x30, &[value(0x02, &[&[0], [0xff; 256].as_slice()].concat()), vec![2, 1, 3]].concat());
        assert!(PublicKey::from_pkcs1(&three).is_none());
    }

    #[test]
    fn a_signature_verifies_for_its_key_and_message_only() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let key = PublicKey::from_point(KeyType::EcP256, pair.public_key().as_ref()).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"m").unwrap();
        assert!(key.verifies(b"m", signature.as_ref()) && !key.verifies(b"n", signature.as_ref()));
        let [(kind, other), _] = points();
        assert!(!PublicKey::from_point(kind, &other).unwrap().verifies(b"m", signature.as_ref()));
    }
}
