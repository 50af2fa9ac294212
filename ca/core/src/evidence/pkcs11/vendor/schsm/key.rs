//! The attested key of a request, as the SubjectPublicKeyInfo everybody else knows it by.

use super::super::{Refused, refuse, tlv::Reader};
use crate::{csr, reason::Reason};

/// Tag of the public point.
pub(super) const POINT: u16 = 0x86;

const OID: u16 = 0x06;
/// id-TA-ECDSA-* and id-TA-RSA-* of TR-03110, without the last arc, which names a hash.
const ECDSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x02];
const RSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x01];
const RSA_MODULUS: u16 = 0x81;
const RSA_EXPONENT: u16 = 0x82;
/// The only exponent taken, 65537.
const EXPONENT: &[u8] = &[1, 0, 1];
const RSA_BYTES: [usize; 3] = [256, 384, 512];

/// Domain parameters as a request spells them out, in the order of their tags 81 to 85; cofactor 1.
pub(super) struct Curve {
    prime: &'static str,
    a: &'static str,
    b: &'static str,
    base: &'static str,
    order: &'static str,
}

pub(super) const BRAINPOOL_P256R1: Curve = Curve {
    prime: "a9fb57dba1eea9bc3e660a909d838d726e3bf623d52620282013481d1f6e5377",
    a: "7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9",
    b: "26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6",
    base: "048bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262\
           547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997",
    order: "a9fb57dba1eea9bc3e660a909d838d718c397aa3b561a6f7901e0e82974856a7",
};

const P256: Curve = Curve {
    prime: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    a: "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    b: "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    base: "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
           4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    order: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
};

const P384: Curve = Curve {
    prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
    a: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc",
    b: "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    base: "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7\
           3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    order: "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
};

/// No node signs with it; real evidence about such a key exists, and proves this reader.
const SECP256K1: Curve = Curve {
    prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f",
    a: "0000000000000000000000000000000000000000000000000000000000000000",
    b: "0000000000000000000000000000000000000000000000000000000000000007",
    base: "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
           483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
    order: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
};

/// Curves an attested key may have, with the DER of its SubjectPublicKeyInfo up to the point.
const CURVES: [(&Curve, &str); 3] = [
    (&P256, "3059301306072a8648ce3d020106082a8648ce3d030107034200"),
    (&P384, "3076301006072a8648ce3d020106052b81040022036200"),
    (&SECP256K1, "3056301006072a8648ce3d020106052b8104000a034200"),
];

/// DER SubjectPublicKeyInfo of the key a request is for; `content` is that of its public key element.
pub(super) fn attested_spki(content: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut fields = Reader::new(content);
    match fields.expect(OID)?.value.split_last() {
        Some((_, ECDSA)) => elliptic(content),
        Some((_, RSA)) => rsa(fields),
        _ => refuse(Reason::VendorKey, "the attested key is neither elliptic nor RSA"),
    }
}

fn elliptic(content: &[u8]) -> Result<Vec<u8>, Refused> {
    for (curve, head) in CURVES {
        let mut fields = Reader::new(content);
        fields.expect(OID)?;
        let Ok(point) = explicit_point(&mut fields, curve) else { continue };
        fields.end()?;
        let whole = point.len().saturating_mul(2) == curve.base.len() && point.starts_with(&[4]);
        return match hex::decode(head) {
            Ok(head) if whole => Ok([&head, point].concat()),
            _ => refuse(Reason::VendorKey, "the attested key is no uncompressed point of its curve"),
        };
    }
    refuse(Reason::VendorKey, "the attested key's curve is none of P-256 and P-384, or its parameters are altered")
}

/// Reads the domain parameters, which must be those of `curve` to the byte, and then the point.
pub(super) fn explicit_point<'a>(fields: &mut Reader<'a>, curve: &Curve) -> Result<&'a [u8], Refused> {
    for (tag, parameter) in
        [(0x81, curve.prime), (0x82, curve.a), (0x83, curve.b), (0x84, curve.base), (0x85, curve.order)]
    {
        if hex::encode(fields.expect(tag)?.value) != parameter {
            return refuse(Reason::VendorKey, "the curve's parameters are not the known ones");
        }
    }
    let point = fields.expect(POINT)?.value;
    match fields.expect(0x87)?.value {
        [1] => Ok(point),
        _ => refuse(Reason::VendorKey, "the curve's cofactor is not 1"),
    }
}

fn rsa(mut fields: Reader<'_>) -> Result<Vec<u8>, Refused> {
    let modulus = fields.expect(RSA_MODULUS)?.value;
    let exponent = fields.expect(RSA_EXPONENT)?.value;
    fields.end()?;
    let odd = modulus.last().is_some_and(|last| last & 1 == 1);
    let full = modulus.first().is_some_and(|first| first & 0x80 != 0);
    if !RSA_BYTES.contains(&modulus.len()) || !odd || !full || exponent != EXPONENT {
        return refuse(Reason::VendorKey, "the attested key is not RSA of 2048, 3072 or 4096 bits with exponent 65537");
    }
    Ok(csr::rsa_spki(modulus, exponent))
}

/// The parameters of a curve in the order of their tags, for tests that make requests.
#[cfg(test)]
pub(super) fn sample(name: &str) -> [&'static str; 5] {
    let curve = match name {
        "P-256" => &P256,
        "P-384" => &P384,
        _ => &BRAINPOOL_P256R1,
    };
    [curve.prime, curve.a, curve.b, curve.base, curve.order]
}
