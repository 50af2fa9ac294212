//! RSA keys that a flawed chip made: CVE-2017-15361 ("ROCA"), found in smart cards, tokens and TPMs.
//!
//! Such a modulus is a power of 65537 modulo every small prime; of random ones, one in 2^27 is.

/// Odd primes whose product the flawed library built its moduli from, for keys of up to 512 bits; larger keys use more.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the flaw made this modulus, given big-endian.
///
/// Source: Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack (CCS 2017), section 2.
#[must_use]
pub fn is_roca(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let residue = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        is_power_of_65537(residue, *prime)
    })
}

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let generator = 65_537 % prime;
    let mut power = 1;
    for _ in 1..prime {
        if power == residue {
            return true;
        }
        power = power * generator % prime;
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// 65537 to the power of `exponent`: as the flaw makes them, modulo every prime.
    pub(crate) fn power_of_65537(exponent: usize) -> Vec<u8> {
        let mut little_endian = vec![1_u8];
        for _ in 0..exponent {
            // times 65536, plus itself
            let mut sum = [vec![0, 0], little_endian.clone()].concat();
            let mut carry = 0_u16;
            for (place, byte) in sum.iter_mut().enumerate() {
                let total = u16::from(*byte) + u16::from(little_endian.get(place).copied().unwrap_or(0)) + carry;
                (*byte, carry) = ((total & 0xff) as u8, total >> 8);
            }
            if carry > 0 {
                sum.push(carry as u8);
            }
            little_endian = sum;
        }
        little_endian.reverse();
        little_endian
    }

    #[test]
    fn powers_of_65537_are_told_from_a_sound_modulus() {
        assert_eq!(power_of_65537(2), [1, 0, 2, 0, 1]);
        assert!(is_roca(&power_of_65537(127)));
        let mut other = power_of_65537(127);
        *other.last_mut().unwrap() ^= 2;
        assert!(!is_roca(&other));
    }
}
