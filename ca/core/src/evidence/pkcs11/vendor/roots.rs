//! The makers' roots: known ones compiled in and checked by SHA-256, others added by an operator.

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    Refused, Vendor,
    schsm::cvc::{Cvc, Domain, Role},
};
use crate::crypto::sha256;

/// Roots of makers and the SHA-256 they are known by; origins are in `roots/README.md`.
const BUILTIN: &[(Vendor, &[u8], &str)] = &[
    (
        Vendor::ScHsm,
        include_bytes!("roots/sc-hsm.cvc"),
        "453a391015c5fbb60116c838ed613591828bf62ac8a1aca276ce4e60525ec3e3",
    ),
    (
        Vendor::YubiHsm2,
        include_bytes!("roots/yubihsm2.der"),
        "094a3ac493c2bdcd65a54bdf40190f52bb03f7156397a3fc69d8aa9a392fb724",
    ),
];

/// What the chains of each maker must lead to.
#[derive(Clone, Debug, Default)]
pub struct PinnedRoots {
    yubihsm2: Vec<X509Root>,
    yubihsm2_sub_cas: Vec<CertificateDer<'static>>,
    sc_hsm: Vec<CvcRoot>,
}

/// An X.509 root and its validity, which webpki does not look at.
#[derive(Clone, Debug)]
pub(super) struct X509Root {
    pub anchor: TrustAnchor<'static>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

/// A CVC root, parsed once.
#[derive(Clone, Debug)]
pub(super) struct CvcRoot {
    pub name: Vec<u8>,
    pub key: super::schsm::cvc::DeviceKey,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

/// Why bytes cannot be a root or sub-CA.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RootError {
    /// A compiled-in root is not the one it is known as.
    #[error("the built-in root of {0} does not have its SHA-256: this binary was built from altered sources")]
    Altered(Vendor),
    /// Not one certificate of the vendor's form.
    #[error("the file is not one {form} of {vendor}: {detail}")]
    Malformed {
        /// Whose root it should be.
        vendor: Vendor,
        /// X.509 certificate or CVC.
        form: &'static str,
        /// What was seen.
        detail: String,
    },
    /// basicConstraints does not say CA.
    #[error("the certificate for {0} is not a CA certificate")]
    NotCa(Vendor),
    /// The vendor's devices carry their sub-CA themselves.
    #[error("{0} takes no intermediates: devices carry theirs")]
    NoIntermediates(Vendor),
}

impl PinnedRoots {
    /// The roots of the makers, as compiled in.
    ///
    /// # Errors
    /// [`RootError::Altered`] if a root does not have its pinned SHA-256.
    pub fn builtin() -> Result<Self, RootError> {
        let mut roots = Self::default();
        for (vendor, bytes, pin) in BUILTIN {
            if hex::encode(sha256(&[bytes])) != *pin {
                return Err(RootError::Altered(*vendor));
            }
            roots.add_root(*vendor, bytes)?;
        }
        Ok(roots)
    }

    /// Adds a root an operator trusts: DER certificate (`yubihsm2`) or self-signed CVC (`sc-hsm`); its SHA-256.
    ///
    /// # Errors
    /// [`RootError`] saying what the bytes are not.
    pub fn add_root(&mut self, vendor: Vendor, bytes: &[u8]) -> Result<[u8; 32], RootError> {
        match vendor {
            Vendor::ScHsm => self.sc_hsm.push(cvc_root(bytes)?),
            Vendor::YubiHsm2 => self.yubihsm2.push(x509_root(bytes)?),
        }
        Ok(sha256(&[bytes]))
    }

    /// Adds a sub-CA that evidence may then leave out; never an anchor. Its SHA-256.
    ///
    /// # Errors
    /// [`RootError`] saying what the bytes are not.
    pub fn add_intermediate(&mut self, vendor: Vendor, der: &[u8]) -> Result<[u8; 32], RootError> {
        match vendor {
            Vendor::ScHsm => Err(RootError::NoIntermediates(vendor)),
            Vendor::YubiHsm2 => {
                ca_certificate(der)?;
                self.yubihsm2_sub_cas.push(CertificateDer::from(der.to_vec()));
                Ok(sha256(&[der]))
            }
        }
    }

    pub(super) fn yubihsm2_at(&self, now: UnixTime) -> Vec<TrustAnchor<'static>> {
        let valid = |root: &&X509Root| root.not_before <= now && now <= root.not_after;
        self.yubihsm2.iter().filter(valid).map(|root| root.anchor.clone()).collect()
    }

    pub(super) fn yubihsm2_sub_cas(&self) -> &[CertificateDer<'static>] {
        &self.yubihsm2_sub_cas
    }

    /// Roots with this name; makers may roll a root over under one name.
    pub(super) fn sc_hsm_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a CvcRoot> {
        self.sc_hsm.iter().filter(move |root| root.name == name)
    }
}

fn ca_certificate(der: &[u8]) -> Result<X509Certificate<'_>, RootError> {
    let vendor = Vendor::YubiHsm2;
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.is_ca() => Ok(certificate),
        Ok(([], _)) => Err(RootError::NotCa(vendor)),
        Ok((rest, _)) => Err(malformed(vendor, format!("{} bytes follow it", rest.len()))),
        Err(error) => Err(malformed(vendor, error.to_string())),
    }
}

fn x509_root(der: &[u8]) -> Result<X509Root, RootError> {
    let validity = ca_certificate(der)?.validity().clone();
    let input = CertificateDer::from(der);
    let anchor = webpki::anchor_from_trusted_cert(&input)
        .map_err(|error| malformed(Vendor::YubiHsm2, error.to_string()))?
        .to_owned();
    let not_before = UnixTime(validity.not_before.timestamp());
    Ok(X509Root { anchor, not_before, not_after: UnixTime(validity.not_after.timestamp()) })
}

fn cvc_root(bytes: &[u8]) -> Result<CvcRoot, RootError> {
    let told = |refused: Refused| malformed(Vendor::ScHsm, refused.detail);
    let root = Cvc::only(bytes, Domain::MayBeExplicit).map_err(told)?;
    if root.role != Role::Root || root.issuer != root.holder {
        return Err(RootError::NotCa(Vendor::ScHsm));
    }
    root.signed_by(&root.key).map_err(told)?;
    Ok(CvcRoot { name: root.holder.to_vec(), key: root.key, not_before: root.not_before, not_after: root.not_after })
}

fn malformed(vendor: Vendor, detail: String) -> RootError {
    let form = match vendor {
        Vendor::ScHsm => "self-signed CVC",
        Vendor::YubiHsm2 => "DER certificate",
    };
    RootError::Malformed { vendor, form, detail }
}
