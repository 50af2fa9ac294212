//! TPM2_MakeCredential in software: a secret that only the TPM holding both the EK and a key of this name can read.
//!
//! Source: TPM 2.0 Library, part 1, 24 (credential protection), 11.4.10 (KDFa, KDFe), B.10.3 and C.6.3.

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, UnparsedPublicKey},
    cipher::{AES_128, AES_256, Algorithm, EncryptingKey, EncryptionContext, UnboundCipherKey},
    digest::{self, SHA256, SHA384},
    hmac,
    iv::FixedLength,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use chancery_core::evidence::tpm::templates::EkKey;
use zeroize::Zeroizing;

use super::random;

/// OAEP label, and KDFe's use, of a credential's seed; the trailing NUL is part of it.
const IDENTITY: &[u8] = b"IDENTITY\0";
/// KDFa's use for the key that encrypts.
const STORAGE: &[u8] = b"STORAGE\0";
/// KDFa's use for the key that authenticates.
const INTEGRITY: &[u8] = b"INTEGRITY\0";
/// What stands before the modulus of an RSA-2048 SubjectPublicKeyInfo whose highest bit is set.
const RSA_PREFIX: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
];
/// What stands after it: exponent 65537.
const RSA_SUFFIX: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// What goes to the node: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET without their outer sizes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// Size-prefixed HMAC, then the ciphertext.
    pub id_object: Vec<u8>,
    /// RSA ciphertext, or the size-prefixed coordinates of the ephemeral point.
    pub encrypted_secret: Vec<u8>,
}

/// How an EK's template says to protect: name algorithm and AES key size.
struct Suite {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    cipher: &'static Algorithm,
    key_bytes: usize,
}

const LOW: fn() -> Suite = || Suite { digest: &SHA256, hmac: hmac::HMAC_SHA256, cipher: &AES_128, key_bytes: 16 };
const HIGH: fn() -> Suite = || Suite { digest: &SHA384, hmac: hmac::HMAC_SHA384, cipher: &AES_256, key_bytes: 32 };

/// Wraps `secret` for the TPM that holds `ek` and an object of name `name` (algorithm and digest).
///
/// `None` only where a primitive fails: no randomness, or a point that is not on its curve.
pub fn make_credential(ek: &EkKey, name: &[u8], secret: &[u8; 32]) -> Option<Credential> {
    let (suite, seed, encrypted_secret) = match ek {
        EkKey::P256 { x, y } => ecdh(LOW(), &ECDH_P256, x, y)?,
        EkKey::P384 { x, y } => ecdh(HIGH(), &ECDH_P384, x, y)?,
        EkKey::Rsa2048 { modulus } => oaep(LOW(), modulus)?,
    };
    let mut encrypted = sized(secret)?;
    let key = kdf_a(&suite, &seed, STORAGE, name, suite.key_bytes);
    cfb(suite.cipher, &key, &mut encrypted)?;
    let key = kdf_a(&suite, &seed, INTEGRITY, &[], suite.digest.output_len());
    let mut mac = hmac::Context::with_key(&hmac::Key::new(suite.hmac, &key));
    mac.update(&encrypted);
    mac.update(name);
    let mut id_object = sized(mac.sign().as_ref())?;
    id_object.append(&mut encrypted);
    Some(Credential { id_object, encrypted_secret })
}

type Seed = Zeroizing<Vec<u8>>;

/// A random seed of the name algorithm's size, under RSA-OAEP.
fn oaep(suite: Suite, modulus: &[u8; 256]) -> Option<(Suite, Seed, Vec<u8>)> {
    let seed: Seed = Zeroizing::new(random::<32>()?.to_vec());
    let spki: Vec<u8> = RSA_PREFIX.iter().chain(modulus).chain(&RSA_SUFFIX).copied().collect();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&spki).ok()?).ok()?;
    let mut out = vec![0; key.ciphertext_size()];
    let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, &seed, &mut out, Some(IDENTITY)).ok()?.len();
    out.truncate(written);
    Some((suite, seed, out))
}

/// The seed from an ephemeral agreement with the EK.
fn ecdh(suite: Suite, curve: &'static agreement::Algorithm, x: &[u8], y: &[u8]) -> Option<(Suite, Seed, Vec<u8>)> {
    let ephemeral = agreement::PrivateKey::generate(curve).ok()?;
    let public = ephemeral.compute_public_key().ok()?;
    // Uncompressed points: 0x04, then both coordinates at full length.
    let (ours_x, ours_y) = public.as_ref().get(1..)?.split_at_checked(x.len())?;
    let theirs: Vec<u8> = [&[4], x, y].concat();
    let bytes = suite.digest.output_len();
    let seed = agreement::agree(&ephemeral, UnparsedPublicKey::new(curve, theirs), (), |z| {
        Ok(kdf_e(suite.digest, z, IDENTITY, ours_x, x, bytes))
    });
    let mut point = sized(ours_x)?;
    point.append(&mut sized(ours_y)?);
    Some((suite, seed.ok()?, point))
}

/// KDFa: HMAC in counter mode. `label` includes its NUL; contextV is empty in every use here.
fn kdf_a(suite: &Suite, key: &[u8], label: &[u8], context: &[u8], bytes: usize) -> Seed {
    let key = hmac::Key::new(suite.hmac, key);
    expand(bytes, |counter, bits| {
        let mut mac = hmac::Context::with_key(&key);
        [&counter.to_be_bytes()[..], label, context, &bits.to_be_bytes()].iter().for_each(|part| mac.update(part));
        mac.sign().as_ref().to_vec()
    })
}

/// KDFe: concatenation KDF of SP 800-56A. `label` includes its NUL.
fn kdf_e(
    hash: &'static digest::Algorithm,
    z: &[u8],
    label: &[u8],
    party_u: &[u8],
    party_v: &[u8],
    bytes: usize,
) -> Seed {
    expand(bytes, |counter, _| {
        let mut context = digest::Context::new(hash);
        [&counter.to_be_bytes()[..], z, label, party_u, party_v].iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    })
}

/// Blocks from counter 1 on, cut to `bytes`.
fn expand(bytes: usize, block: impl Fn(u32, u32) -> Vec<u8>) -> Seed {
    let bits = u32::try_from(bytes * 8).expect("at most 48 bytes are asked for");
    let mut out = Zeroizing::new(Vec::with_capacity(bytes));
    for counter in 1_u32.. {
        if out.len() >= bytes {
            break;
        }
        out.extend(block(counter, bits));
    }
    out.truncate(bytes);
    out
}

/// AES-CFB with a zero IV, as the TPM does; the key is used once.
fn cfb(cipher: &'static Algorithm, key: &[u8], in_out: &mut [u8]) -> Option<()> {
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(cipher, key).ok()?).ok()?;
    let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(in_out, context).ok().map(drop)
}

/// A TPM2B: u16 size, then the bytes.
fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = u16::try_from(bytes.len()).ok()?;
    Some(size.to_be_bytes().iter().chain(bytes).copied().collect())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };

    use super::*;

    #[test]
    fn kdfs_yield_what_is_asked_for_and_differ_by_context() {
        let a = kdf_a(&HIGH(), b"seed", STORAGE, b"name", 32);
        let b = kdf_a(&HIGH(), b"seed", STORAGE, b"other", 32);
        assert!(a.len() == 32 && a != b);
        assert_eq!(kdf_e(&SHA256, b"z", IDENTITY, b"u", b"v", 48).len(), 48);
    }

    #[test]
    fn rsa_seed_is_under_oaep_with_the_identity_label() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public = private.public_key();
        let spki: PublicKeyX509Der<'_> = public.as_der().unwrap();
        let modulus: [u8; 256] = spki.as_ref()[33..289].try_into().unwrap();
        let credential = make_credential(&EkKey::Rsa2048 { modulus }, b"name", &[7; 32]).unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut seed = [0; 256];
        let seed =
            private.decrypt(&OAEP_SHA256_MGF1SHA256, &credential.encrypted_secret, &mut seed, Some(IDENTITY)).unwrap();
        assert_eq!(seed.len(), 32);
        assert_eq!(credential.id_object.len(), 2 + 32 + 2 + 32);
    }

    #[test]
    fn a_point_off_its_curve_makes_no_credential() {
        assert_eq!(make_credential(&EkKey::P256 { x: [1; 32], y: [1; 32] }, b"name", &[7; 32]), None);
    }
}
