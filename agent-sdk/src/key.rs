//! Public keys in the two forms that SPIFFE documents use: SubjectPublicKeyInfo and JWK members.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    prelude::FromDer,
    public_key::PublicKey as Parsed,
    x509::SubjectPublicKeyInfo,
};

/// JWK members that hold private or shared keys (RFC 7518, 6.2.2, 6.3.2, 6.4); never written, refused when read.
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Curves of ECDSA keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Bytes of one coordinate.
    fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// DER AlgorithmIdentifier content: id-ecPublicKey and the curve's OID.
    fn algorithm(self) -> &'static [u8] {
        match self {
            Self::P256 => b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
            Self::P384 => b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
            Self::P521 => b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
        }
    }
}

/// A public key of a kind that a JWK can name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PublicKey {
    /// `point` is uncompressed: 0x04, x, y.
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    /// Unsigned, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// Reads DER SubjectPublicKeyInfo; `None` for kinds this crate does not know.
    pub(crate) fn from_spki(spki: &[u8]) -> Option<Self> {
        let Ok(([], spki)) = SubjectPublicKeyInfo::from_der(spki) else { return None };
        let algorithm = &spki.algorithm.algorithm;
        if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let parameter = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let oids = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];
            let (curve, _) = Curve::ALL.into_iter().zip(oids).find(|(_, oid)| *oid == parameter)?;
            return Self::ec(curve, spki.subject_public_key.data.to_vec());
        }
        if *algorithm == OID_PKCS1_RSAENCRYPTION {
            let Ok(Parsed::RSA(key)) = spki.parsed() else { return None };
            return Self::rsa(key.modulus, key.exponent);
        }
        (*algorithm == OID_SIG_ED25519).then(|| Self::Ed25519(spki.subject_public_key.data.to_vec()))
    }

    /// Reads the key members of a JWK; `None` for an unknown `kty` or members that are missing or odd.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        if SECRET_MEMBERS.iter().any(|secret| jwk.contains_key(*secret)) {
            return None;
        }
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(jwk.get(member)?.as_str()?).ok();
        let curve_name = jwk.get("crv").and_then(Value::as_str);
        match jwk.get("kty")?.as_str()? {
            "EC" => {
                let curve = Curve::ALL.into_iter().find(|curve| Some(curve.name()) == curve_name)?;
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != curve.field_len() {
                    return None;
                }
                Self::ec(curve, [&[4], x.as_slice(), y.as_slice()].concat())
            }
            "OKP" if curve_name == Some("Ed25519") => Some(Self::Ed25519(bytes("x")?)),
            "RSA" => Self::rsa(&bytes("n")?, &bytes("e")?),
            _ => None,
        }
    }

    /// The JWK members that describe the key: `kty` and its parameters, nothing else.
    pub(crate) fn to_jwk(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let members = match self {
            Self::Ec { curve, point } => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at(curve.field_len());
                vec![("kty", "EC".into()), ("crv", curve.name().into()), ("x", text(x)), ("y", text(y))]
            }
            Self::Ed25519(x) => vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", text(x))],
            Self::Rsa { n, e } => vec![("kty", "RSA".into()), ("n", text(n)), ("e", text(e))],
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// DER SubjectPublicKeyInfo.
    pub(crate) fn to_spki(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::Ec { curve, point } => (curve.algorithm(), point.clone()),
            Self::Ed25519(x) => (b"\x06\x03\x2b\x65\x70".as_slice(), x.clone()),
            Self::Rsa { n, e } => (
                b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".as_slice(),
                der(0x30, &[unsigned(n), unsigned(e)].concat()),
            ),
        };
        der(0x30, &[der(0x30, algorithm), der(0x03, &[vec![0], key].concat())].concat())
    }

    fn ec(curve: Curve, point: Vec<u8>) -> Option<Self> {
        let uncompressed = point.first() == Some(&4) && point.len() == 1 + 2 * curve.field_len();
        uncompressed.then_some(Self::Ec { curve, point })
    }

    fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let strip = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (strip(n), strip(e));
        (!n.is_empty() && !e.is_empty()).then_some(Self::Rsa { n, e })
    }
}

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match (content.len(), u8::try_from(significant.len())) {
        (short @ 0..0x80, _) => element.extend(u8::try_from(short)),
        (_, count) => {
            element.extend(count.map(|count| 0x80 | count));
            element.extend(significant);
        }
    }
    element.extend(content);
    element
}

/// A DER INTEGER that is not negative; `number` has no leading zeros.
fn unsigned(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(0x80..) => der(0x02, &[&[0], number].concat()),
        _ => der(0x02, number),
    }
}
