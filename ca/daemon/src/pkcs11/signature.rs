//! What a token is given to sign, and the form its answer is brought into.
//!
//! Only `CKM_ECDSA` and `CKM_RSA_PKCS` are the same on every module, and both sign whatever short input they get: so
//! the hash is made here, of a whole message, and nobody outside can have chosen it.

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use cryptoki::mechanism::Mechanism;

use crate::{key_type::KeyType, public_key::value};

/// DigestInfo of SHA-256 up to the hash (RFC 8017, 9.2 note 1).
const SHA256_INFO: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// The mechanism of a kind of key.
pub(super) fn mechanism(kind: KeyType) -> Mechanism<'static> {
    match kind {
        KeyType::EcP256 | KeyType::EcP384 => Mechanism::Ecdsa,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => Mechanism::RsaPkcs,
    }
}

/// What the token is given for `message`.
pub(super) fn input(kind: KeyType, message: &[u8]) -> Vec<u8> {
    match kind {
        KeyType::EcP256 => digest(&SHA256, message).as_ref().to_vec(),
        KeyType::EcP384 => digest(&SHA384, message).as_ref().to_vec(),
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            [SHA256_INFO, digest(&SHA256, message).as_ref()].concat()
        }
    }
}

/// DER ECDSA-Sig-Value or PKCS #1 v1.5 of the token's answer; `None` where it can be neither.
pub(super) fn output(kind: KeyType, raw: Vec<u8>) -> Option<Vec<u8>> {
    let octets = match kind {
        KeyType::EcP256 => 32,
        KeyType::EcP384 => 48,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            return (Some(raw.len() * 8) == kind.modulus_bits()).then_some(raw);
        }
    };
    if raw.len() != 2 * octets {
        return None;
    }
    let (r, s) = raw.split_at(octets);
    Some(value(0x30, &[integer(r)?, integer(s)?].concat()))
}

/// A positive INTEGER; `None` for zero, which no signature holds.
fn integer(half: &[u8]) -> Option<Vec<u8>> {
    let zeros = half.iter().take_while(|b| **b == 0).count();
    let digits = half.get(zeros..)?;
    let pad: &[u8] = if *digits.first()? >= 0x80 { &[0] } else { &[] };
    Some(value(0x02, &[pad, digits].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_become_der_with_the_fewest_octets() {
        let mut raw = vec![0; 64];
        raw[31] = 7;
        raw[32] = 0x80;
        let der = output(KeyType::EcP256, raw).unwrap();
        assert_eq!(der[..7], [0x30, 38, 2, 1, 7, 2, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
    }

    #[test]
    fn answers_of_another_length_or_with_a_zero_half_are_no_signatures() {
        for len in [0, 63, 65, 96] {
            assert!(output(KeyType::EcP256, vec![1; len]).is_none(), "{len}");
        }
        let mut half = vec![1; 96];
        half[48..].fill(0);
        assert!(output(KeyType::EcP384, half).is_none());
        assert!(output(KeyType::Rsa2048, vec![1; 255]).is_none() && output(KeyType::Rsa2048, vec![1; 256]).is_some());
    }

    #[test]
    fn the_token_is_given_a_hash_and_for_rsa_what_names_it() {
        assert_eq!(input(KeyType::EcP256, b"").len(), 32);
        assert_eq!(input(KeyType::EcP384, b"").len(), 48);
        let info = input(KeyType::Rsa4096, b"abc");
        assert_eq!((info.len(), info[0], usize::from(info[1])), (51, 0x30, 49));
        assert_eq!(info[19..23], [0xba, 0x78, 0x16, 0xbf]);
    }
}
