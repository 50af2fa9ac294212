use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::{
    certificate::{Certificate, CertificateError},
    key::PrivateKey,
    leaf::{LeafError, id_of},
};
use crate::{id::SpiffeId, time::UnixTime};

/// Certificates in one SVID, the leaf included; deeper hierarchies than leaf + 4 do not verify here either.
const MAX_CHAIN: usize = super::MAX_INTERMEDIATES + 1;

/// Why a chain and a key are no X509-SVID that can be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum X509SvidError {
    /// A certificate after the leaf that cannot be read.
    #[error("certificate {index} of the chain: {source}")]
    BadIntermediate {
        /// Its place in the chain; the leaf is 0.
        index: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// Bytes that are no PKCS#8 key of a supported kind.
    #[error("private key is no PKCS#8 key on P-256, P-384, RSA (2048 to 4096 bits) or Ed25519")]
    BadKey,
    /// No certificate at all.
    #[error("chain is empty")]
    EmptyChain,
    /// The leaf breaks a rule of X509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The private key is not the leaf's (XS-37).
    #[error("private key does not belong to the leaf's public key")]
    KeyMismatch,
    /// The leaf has no keyUsage extension, or one without digitalSignature (XS-24).
    #[error("leaf may not sign (keyUsage without digitalSignature)")]
    NoDigitalSignature,
    /// A certificate that did not issue the one before it (XS-38).
    #[error("certificate {index} of the chain did not issue the one before it")]
    NotTheIssuer {
        /// Its place in the chain; the leaf is 0.
        index: usize,
    },
    /// A longer chain than a verifier would accept.
    #[error("chain of {len} certificates exceeds {max}")]
    TooLong {
        /// Certificates given.
        len: usize,
        /// Certificates allowed.
        max: usize,
    },
}

/// A workload's own X509-SVID: a chain, leaf first, and the private key of the leaf.
#[derive(Clone, Debug)]
pub struct X509Svid {
    id: SpiffeId,
    /// Leaf first, then intermediates, each the issuer of the one before.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    not_before: UnixTime,
    not_after: UnixTime,
    serial_decimal: String,
}

impl X509Svid {
    /// Checks a chain and its key as the Workload API delivers them.
    ///
    /// `chain` is DER certificates one after the other, leaf first; `key` is DER PKCS#8. Times are not
    /// judged and no signature is checked: the holder trusts who handed these over.
    ///
    /// # Errors
    /// [`X509SvidError`] naming the rule broken.
    ///
    /// Source: X509-SVID sections 2 and 4; conformance XS-06, XS-18, XS-24, XS-37, XS-38.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, X509SvidError> {
        let chain = split(chain)?;
        let Some(leaf) = chain.first() else { return Err(X509SvidError::EmptyChain) };
        let leaf = Certificate::parse(leaf).map_err(LeafError::from)?;
        let id = id_of(&leaf)?;
        let usage = leaf.key_usage().map_err(LeafError::from)?;
        if !usage.is_some_and(|usage| usage.digital_signature()) {
            return Err(X509SvidError::NoDigitalSignature);
        }
        check_order(&chain)?;
        let key = PrivateKey::new(key);
        if key.public_key_bits().ok_or(X509SvidError::BadKey)? != leaf.public_key_bits() {
            return Err(X509SvidError::KeyMismatch);
        }
        let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
        let serial_decimal = leaf.serial_decimal();
        Ok(Self { id, chain, key, not_before, not_after, serial_decimal })
    }

    /// The identity.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain as the Workload API sends it: DER one after the other, leaf first.
    pub fn chain_der_concatenated(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect()
    }

    /// The leaf.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.chain.first().expect("parse refuses an empty chain")
    }

    /// The leaf's private key, borrowed: what the borrower copies is no longer wiped.
    pub fn private_key(&self) -> PrivateKeyDer<'_> {
        self.key.der()
    }

    /// The leaf's private key, DER PKCS#8; the same warning holds.
    pub fn private_key_pkcs8(&self) -> &[u8] {
        self.key.pkcs8()
    }

    /// First second of validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The leaf's serial number in decimal digits.
    pub fn serial_decimal(&self) -> String {
        self.serial_decimal.clone()
    }
}

fn split(chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, X509SvidError> {
    let mut certificates = Vec::new();
    let mut rest = chain;
    while !rest.is_empty() {
        let index = certificates.len();
        let (_, used) = Certificate::parse_first(rest).map_err(|source| match index {
            0 => X509SvidError::Leaf(source.into()),
            _ => X509SvidError::BadIntermediate { index, source },
        })?;
        let (certificate, after) = rest.split_at(used);
        certificates.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
        if certificates.len() > MAX_CHAIN {
            return Err(X509SvidError::TooLong { len: certificates.len(), max: MAX_CHAIN });
        }
    }
    Ok(certificates)
}

/// Demands that each certificate is a CA and carries the name that the one before gives as its issuer.
fn check_order(chain: &[CertificateDer<'static>]) -> Result<(), X509SvidError> {
    for (index, pair) in (1..).zip(chain.windows(2)) {
        let [child, parent] = pair else { continue };
        let bad = |source| X509SvidError::BadIntermediate { index, source };
        let (child, parent) = (Certificate::parse(child).map_err(bad)?, Certificate::parse(parent).map_err(bad)?);
        if child.issuer() != parent.subject() || !parent.may_sign_certificates().map_err(bad)? {
            return Err(X509SvidError::NotTheIssuer { index });
        }
    }
    Ok(())
}
