//! Kinds of signing keys: the closed set that configuration, key stores, tokens and the journal share.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A kind of signing key. Each has one signature algorithm, so that nobody else ever chooses it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum KeyType {
    /// ECDSA on P-256 over SHA-256.
    #[default]
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on P-384 over SHA-384.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// RSA PKCS #1 v1.5 with 2048 bits over SHA-256.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA PKCS #1 v1.5 with 3072 bits over SHA-256.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA PKCS #1 v1.5 with 4096 bits over SHA-256.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// No kind of key has this name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("key type {0:?} is not known; use ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096")]
pub struct UnknownKeyType(pub String);

impl KeyType {
    /// Every kind, the default first.
    pub const ALL: [Self; 5] = [Self::EcP256, Self::EcP384, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Its name in configuration, journal and CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Bits of the modulus; `None` for a key on a curve.
    pub const fn modulus_bits(self) -> Option<usize> {
        match self {
            Self::EcP256 | Self::EcP384 => None,
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKeyType(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        kind: KeyType,
    }

    #[test]
    fn each_name_is_read_back_by_fromstr_and_by_serde() {
        for kind in KeyType::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let sample: Sample = crate::config::parse(&format!("kind = \"{kind}\"")).unwrap();
            assert_eq!(sample.kind, kind);
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_list() {
        for bad in ["", "rsa-1024", "EC-P256", "ed25519"] {
            assert!(bad.parse::<KeyType>().unwrap_err().to_string().contains("rsa-2048"), "{bad}");
        }
    }
}
