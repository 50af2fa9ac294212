//! What the operator trusts of tokens: enrolment CAs, what is denied.

use std::{collections::BTreeSet, fmt, sync::Arc};

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    crl::Crls,
    vendor::{PinnedRoots, VendorPolicy},
};
use crate::crypto::sha256;

/// Everything a token's evidence is judged by.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The operator's CAs that vouch for keys in tokens; pinned.
    pub enrolment_cas: Vec<EnrolmentCa>,
    /// What those CAs, and CAs below them, took back; `None`: nobody asks. Else every certificate needs a list in force.
    pub enrolment_crls: Option<Arc<Crls>>,
    /// Selector values that no node may have: `spki:sha256:<hex>`, `ca:<hex>`, `subject:serial:<n>`,
    /// `<vendor>:serial:<n>`.
    pub denied: BTreeSet<String>,
    /// Makers whose evidence is taken, and on what terms. A key on a listed device is ours.
    pub vendors: VendorPolicy,
    /// What that evidence must lead to.
    pub roots: PinnedRoots,
}

/// A CA of the operator's that certifies keys it saw made in a token.
#[derive(Clone, Eq, PartialEq)]
pub struct EnrolmentCa {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Believed no longer than this; webpki does not look at an anchor's validity.
    pub not_after: UnixTime,
    pub(crate) anchor: TrustAnchor<'static>,
}

impl fmt::Debug for EnrolmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentCa({})", hex::encode(self.fingerprint))
    }
}

/// Why a certificate is no enrolment CA.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EnrolmentCaError {
    /// Not one DER certificate.
    #[error("not one DER certificate")]
    Malformed,
    /// basicConstraints does not say CA.
    #[error("not a CA certificate")]
    NotCa,
}

impl EnrolmentCa {
    /// Pins a CA certificate (DER).
    ///
    /// # Errors
    /// [`EnrolmentCaError`].
    pub fn parse(der: &[u8]) -> Result<Self, EnrolmentCaError> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else { return Err(EnrolmentCaError::Malformed) };
        if !certificate.is_ca() {
            return Err(EnrolmentCaError::NotCa);
        }
        let not_after = UnixTime(certificate.validity().not_after.timestamp());
        let input = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&input).map_err(|_| EnrolmentCaError::Malformed)?.to_owned();
        Ok(Self { fingerprint: sha256(&[der]), not_after, anchor })
    }
}
