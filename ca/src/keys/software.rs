//! Keys in this process's memory, of every kind: what the memory and disk stores hold.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom as AwsRandom,
    rsa,
    signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair as AwsEcdsa, KeyPair as _, RSA_PKCS1_SHA256},
};
use chancery_daemon::{key_type::KeyType, public_key::PublicKey};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

use super::{KeyError, Signer};

/// A key in this process's memory.
pub(crate) struct SoftwareKey {
    public: PublicKey,
    private: Private,
}

/// `ring` does the default path; `aws-lc-rs` what it cannot do, or not at speed.
enum Private {
    P256(EcdsaKeyPair, SystemRandom),
    P384(AwsEcdsa),
    Rsa(rsa::KeyPair),
}

/// Makes a key; PKCS#8 DER.
pub(crate) fn generate(kind: KeyType) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match kind {
        KeyType::EcP256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            .map_err(|_| KeyError::Randomness),
        KeyType::EcP384 => AwsEcdsa::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &AwsRandom::new())
            .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            .map_err(|_| KeyError::Randomness),
        KeyType::Rsa2048 => generate_rsa(rsa::KeySize::Rsa2048),
        KeyType::Rsa3072 => generate_rsa(rsa::KeySize::Rsa3072),
        KeyType::Rsa4096 => generate_rsa(rsa::KeySize::Rsa4096),
    }
}

fn generate_rsa(size: rsa::KeySize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let pair = rsa::KeyPair::generate(size).map_err(|_| KeyError::Randomness)?;
    let document: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Randomness)?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

impl SoftwareKey {
    /// Reads PKCS#8 DER; `None` when it is no key of a kind that [`KeyType`] names.
    pub(crate) fn parse(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random) {
            let public = PublicKey::from_point(KeyType::EcP256, pair.public_key().as_ref())?;
            return Some(Self { public, private: Private::P256(pair, random) });
        }
        if let Ok(pair) = AwsEcdsa::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8) {
            let public = PublicKey::from_point(KeyType::EcP384, pair.public_key().as_ref())?;
            return Some(Self { public, private: Private::P384(pair) });
        }
        let pair = rsa::KeyPair::from_pkcs8(pkcs8).ok()?;
        let public = PublicKey::from_pkcs1(pair.public_key().as_ref())?;
        Some(Self { public, private: Private::Rsa(pair) })
    }
}

impl Signer for SoftwareKey {
    fn spki(&self) -> &[u8] {
        self.public.spki()
    }

    fn key_type(&self) -> KeyType {
        self.public.kind()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.private {
            Private::P256(pair, random) => {
                pair.sign(random, message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Sign)
            }
            Private::P384(pair) => {
                pair.sign(&AwsRandom::new(), message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Sign)
            }
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &AwsRandom::new(), message, &mut signature);
                signed.map(|()| signature).map_err(|_| KeyError::Sign)
            }
        }
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoftwareKey").field(&self.key_type()).finish()
    }
}
