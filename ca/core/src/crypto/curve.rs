//! Whether a point lies on P-256 or P-384.
//!
//! ring checks this inside every use of a key, but says nothing on its own, and an attestation key is
//! judged before its first signature arrives. Public values only, so nothing here is constant time.

/// A field and the curve y^2 = x^3 - 3x + b over it; little-endian limbs, both below the prime.
struct Curve<const N: usize> {
    p: [u64; N],
    b: [u64; N],
}

const P256: Curve<4> = Curve {
    p: [0xffff_ffff_ffff_ffff, 0x0000_0000_ffff_ffff, 0, 0xffff_ffff_0000_0001],
    b: [0x3bce_3c3e_27d2_604b, 0x651d_06b0_cc53_b0f6, 0xb3eb_bd55_7698_86bc, 0x5ac6_35d8_aa3a_93e7],
};

const P384: Curve<6> = Curve {
    p: [0x0000_0000_ffff_ffff, 0xffff_ffff_0000_0000, 0xffff_ffff_ffff_fffe, u64::MAX, u64::MAX, u64::MAX],
    b: [
        0x2a85_c8ed_d3ec_2aef,
        0xc656_398d_8a2e_d19d,
        0x0314_088f_5013_875a,
        0x181d_9c6e_fe81_4112,
        0x988e_056b_e3f8_2d19,
        0xb331_2fa7_e23e_e7e4,
    ],
};

/// Whether y^2 = x^3 - 3x + b holds with both coordinates below the field's prime.
///
/// Source: SEC 1, 3.2.2.1; NIST SP 800-186, 3.2.1.3.
#[must_use]
pub fn on_p256(x: &[u8; 32], y: &[u8; 32]) -> bool {
    P256.holds(x, y)
}

/// As [`on_p256`], for P-384. Source: NIST SP 800-186, 3.2.1.4.
#[must_use]
pub fn on_p384(x: &[u8; 48], y: &[u8; 48]) -> bool {
    P384.holds(x, y)
}

impl<const N: usize> Curve<N> {
    /// `x` and `y` are big-endian, 8 N bytes each.
    fn holds(&self, x: &[u8], y: &[u8]) -> bool {
        let (Some(x), Some(y)) = (self.field(x), self.field(y)) else { return false };
        let cube = self.mul(&self.mul(&x, &x), &x);
        let three_x = self.add(&self.add(&x, &x), &x);
        self.mul(&y, &y) == self.add(&self.sub(&cube, &three_x), &self.b)
    }

    fn field(&self, bytes: &[u8]) -> Option<[u64; N]> {
        let mut limbs = [0; N];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *limb = chunk.iter().fold(0, |acc, byte| acc << 8 | u64::from(*byte));
        }
        less(&limbs, &self.p).then_some(limbs)
    }

    fn add(&self, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
        let (sum, carry) = raw_add(a, b);
        if carry || !less(&sum, &self.p) { raw_sub(&sum, &self.p).0 } else { sum }
    }

    fn sub(&self, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
        let (difference, borrow) = raw_sub(a, b);
        if borrow { raw_add(&difference, &self.p).0 } else { difference }
    }

    /// Double and add from the top bit: some hundred additions, some microseconds.
    fn mul(&self, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
        let mut product = [0; N];
        for limb in b.iter().rev() {
            for bit in (0..64).rev() {
                product = self.add(&product, &product);
                if limb >> bit & 1 == 1 {
                    product = self.add(&product, a);
                }
            }
        }
        product
    }
}

fn less<const N: usize>(a: &[u64; N], b: &[u64; N]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn raw_add<const N: usize>(a: &[u64; N], b: &[u64; N]) -> ([u64; N], bool) {
    let (mut out, mut carry) = ([0; N], false);
    for ((limb, a), b) in out.iter_mut().zip(a).zip(b) {
        let (sum, first) = a.overflowing_add(*b);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*limb, carry) = (sum, first || second);
    }
    (out, carry)
}

fn raw_sub<const N: usize>(a: &[u64; N], b: &[u64; N]) -> ([u64; N], bool) {
    let (mut out, mut borrow) = ([0; N], false);
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
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
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
    fn p384_points_are_told_from_others() {
        let rng = SystemRandom::new();
        let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap();
        let sec1 = key.public_key().as_ref();
        let (x, y): ([u8; 48], [u8; 48]) = (sec1[1..49].try_into().unwrap(), sec1[49..].try_into().unwrap());
        assert!(on_p384(&x, &y));
        assert!(!on_p384(&y, &x) && !on_p384(&[0; 48], &[0; 48]) && !on_p384(&[0xff; 48], &[0xff; 48]));
        for bit in (0..384).step_by(7) {
            let mut off = y;
            off[bit / 8] ^= 1 << (bit % 8);
            assert!(!on_p384(&x, &off), "bit {bit}");
        }
    }

    #[test]
    fn coordinates_at_or_above_the_prime_are_no_point() {
        assert!(!on_p256(&[0xff; 32], &[0xff; 32]));
        assert!(!on_p256(&[0; 32], &[0; 32]));
    }
}
