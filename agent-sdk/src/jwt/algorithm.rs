use ring::signature::{self as ring_alg, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};

use crate::key::{Curve, PublicKey};

/// The nine algorithms of JWT-SVID section 2.1; there is no tenth, and none is the default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Algorithm {
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    Rs256,
    Rs384,
    Rs512,
}

/// What came of checking a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// The key is of another type or curve than the algorithm.
    KeyDoesNotFit,
    Refused,
    Verified,
}

impl Algorithm {
    /// Reads a header's `alg`, exact in case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    /// Checks `signature` (for ECDSA r and s side by side, RFC 7518 section 3.4) over `message`.
    ///
    /// RSA keys of fewer than 2048 or more than 8192 bits are refused.
    pub(super) fn verify(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> Check {
        match (self, key) {
            (Self::Es256, PublicKey::Ec { curve: Curve::P256, point }) => {
                ecdsa(&ring_alg::ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Self::Es384, PublicKey::Ec { curve: Curve::P384, point }) => {
                ecdsa(&ring_alg::ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Self::Es512, PublicKey::Ec { curve: Curve::P521, point }) => es512(point, message, signature),
            (_, PublicKey::Rsa { n, e }) => match self.rsa_parameters() {
                Some(parameters) => rsa(parameters, n, e, message, signature),
                None => Check::KeyDoesNotFit,
            },
            (_, PublicKey::Ec { .. } | PublicKey::Ed25519(_)) => Check::KeyDoesNotFit,
        }
    }

    fn rsa_parameters(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Es256 | Self::Es384 | Self::Es512 => None,
            Self::Ps256 => Some(&ring_alg::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&ring_alg::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&ring_alg::RSA_PSS_2048_8192_SHA512),
            Self::Rs256 => Some(&ring_alg::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&ring_alg::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&ring_alg::RSA_PKCS1_2048_8192_SHA512),
        }
    }
}

fn ecdsa(algorithm: &'static dyn VerificationAlgorithm, point: &[u8], message: &[u8], signature: &[u8]) -> Check {
    told(ring_alg::UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok())
}

/// P-521 is the one curve that ring does not have.
fn es512(point: &[u8], message: &[u8], signature: &[u8]) -> Check {
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
    told(UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).verify(message, signature).is_ok())
}

fn rsa(parameters: &'static RsaParameters, n: &[u8], e: &[u8], message: &[u8], signature: &[u8]) -> Check {
    told(RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok())
}

fn told(verified: bool) -> Check {
    if verified { Check::Verified } else { Check::Refused }
}
