//! Whether a point lies on P-256.
//!
//! ring checks this inside every use of a key, but says nothing on its own, and an attestation key is
//! judged before its first signature arrives. Public values only, so nothing here is constant time.

type Field = [u64; 4]; // little-endian limbs, below P

const P: Field = [0xffff_ffff_ffff_ffff, 0x0000_0000_ffff_ffff, 0, 0xffff_ffff_0000_0001];
const B: Field = [0x3bce_3c3e_27d2_604b, 0x651d_06b0_cc53_b0f6, 0xb3eb_bd55_7698_86bc, 0x5ac6_35d8_aa3a_93e7];

/// Whether y^2 = x^3 - 3x + b holds with both coordinates below the field's prime.
///
/// Source: SEC 1, 3.2.2.1; NIST SP 800-186, 3.2.1.3.
#[must_use]
pub fn on_p256(x: &[u8; 32], y: &[u8; 32]) -> bool {
    let (Some(x), Some(y)) = (field(x), field(y)) else { return false };
    let cube = mul(&mul(&x, &x), &x);
    let three_x = add(&add(&x, &x), &x);
    mul(&y, &y) == add(&sub(&cube, &three_x), &B)
}

fn field(bytes: &[u8; 32]) -> Option<Field> {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = chunk.iter().fold(0, |acc, byte| acc << 8 | u64::from(*byte));
    }
    less(&limbs, &P).then_some(limbs)
}

fn less(a: &Field, b: &Field) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn add(a: &Field, b: &Field) -> Field {
    let (sum, carry) = raw_add(a, b);
    if carry || !less(&sum, &P) { raw_sub(&sum, &P).0 } else { sum }
}

fn sub(a: &Field, b: &Field) -> Field {
    let (difference, borrow) = raw_sub(a, b);
    if borrow { raw_add(&difference, &P).0 } else { difference }
}

/// Double and add from the top bit: 512 additions, some microseconds.
fn mul(a: &Field, b: &Field) -> Field {
    let mut product = [0; 4];
    for limb in b.iter().rev() {
        for bit in (0..64).rev() {
            product = add(&product, &product);
            if limb >> bit & 1 == 1 {
                product = add(&product, a);
            }
        }
    }
    product
}

fn raw_add(a: &Field, b: &Field) -> (Field, bool) {
    let (mut out, mut carry) = ([0; 4], false);
    for ((limb, a), b) in out.iter_mut().zip(a).zip(b) {
        let (sum, first) = a.overflowing_add(*b);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*limb, carry) = (sum, first || second);
    }
    (out, carry)
}

fn raw_sub(a: &Field, b: &Field) -> (Field, bool) {
    let (mut out, mut borrow) = ([0; 4], false);
    for ((limb, a), b) in out.iter_mut().zip(a).zip(b) {
        let (difference, first) = a.overflowing_sub(*b);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        (*limb, borrow) = (difference, first || second);
    }
    (out, borrow)
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    fn point() -> ([u8; 32], [u8; 32]) {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        let sec1 = key.public_key().as_ref();
        (sec1[1..33].try_into().unwrap(), sec1[33..65].try_into().unwrap())
    }

    #[test]
    fn real_public_keys_are_on_the_curve() {
        for _ in 0..20 {
            let (x, y) = point();
            assert!(on_p256(&x, &y));
        }
    }

    #[test]
    fn any_flipped_bit_leaves_the_curve() {
        let (x, y) = point();
        for bit in 0..256 {
            let mut off = x;
            off[bit / 8] ^= 1 << (bit % 8);
            assert!(!on_p256(&off, &y) || off == x);
            let mut off = y;
            off[bit / 8] ^= 1 << (bit % 8);
            assert!(!on_p256(&x, &off));
        }
    }

    #[test]
    fn coordinates_at_or_above_the_prime_are_no_point() {
        assert!(!on_p256(&[0xff; 32], &[0xff; 32]));
        assert!(!on_p256(&[0; 32], &[0; 32]));
    }
}
