//! A root that another root certifies too: the same name and key, so that whoever trusts the other follows the one.

use chancery_daemon::public_key::PublicKey;
use chancery_sdk::{id::TrustDomain, time::UnixTime, x509};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    super::{SignError, issuer::serial},
    Draft, Holder, Parent, check, finish, own_names, path_len,
};

/// A root as its own certificate has it. That it signed itself proves that somebody has its key.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// End of its own certificate.
    pub not_after: UnixTime,
    /// Start of it.
    pub not_before: UnixTime,
    path_len: Option<u32>,
    name: Vec<u8>,
    key_id: Vec<u8>,
}

impl Root {
    /// Reads a root of a trust domain.
    ///
    /// # Errors
    /// [`SignError::Profile`] saying why it is none.
    pub(crate) fn read(certificate: &CertificateDer<'_>, domain: &TrustDomain) -> Result<Self, SignError> {
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignError::Mismatch("shape"))?;
        let spki = parsed.public_key().raw;
        let key = PublicKey::from_spki(spki);
        let key =
            key.ok_or(SignError::Profile("the root's key must be P-256, P-384 or RSA of 2048, 3072 or 4096 bits"))?;
        let own = key.verifies(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data);
        if !rest.is_empty() || parsed.subject().as_raw() != parsed.issuer().as_raw() || !own {
            return Err(SignError::Profile("the certificate is no root: its own key did not sign it"));
        }
        if own_names(&parsed)?.is_some_and(|id| id != domain.id()) {
            return Err(SignError::Profile("the root is for another trust domain"));
        }
        let key_id = x509::subject_key_id(certificate);
        Ok(Self {
            spki: spki.to_vec(),
            not_after: UnixTime(parsed.validity().not_after.timestamp()),
            not_before: UnixTime(parsed.validity().not_before.timestamp()),
            path_len: path_len(&parsed)?,
            name: parsed.subject().as_raw().to_vec(),
            key_id: key_id.ok_or(SignError::Profile("the root has no subject key identifier"))?,
        })
    }
}

impl Parent {
    /// Certifies another root below this CA: its name, key and key identifier, byte for byte.
    ///
    /// # Errors
    /// As [`Parent::sign`]; [`SignError::Profile`] where it could do more than by its own certificate.
    pub(crate) fn cross_sign(&self, draft: &Draft<'_>, root: &Root) -> Result<CertificateDer<'static>, SignError> {
        if draft.spki != root.spki {
            return Err(SignError::Mismatch("public key"));
        }
        if draft.not_after > root.not_after || draft.not_before < root.not_before {
            return Err(SignError::Profile("the root's own certificate does not hold for the whole of that life"));
        }
        let below = |own: u32| draft.path_len.is_none_or(|len| u32::from(len) > own);
        if root.path_len.is_some_and(below) {
            return Err(SignError::Profile("the path length is above that of the root's own certificate"));
        }
        self.may_sign(draft)?;
        let serial = serial()?;
        let holder = Holder { name: &root.name, key_id: &root.key_id };
        let der = finish(draft, &holder, serial, &self.parts, self.key.as_ref(), true)?;
        check(&der, draft, &holder, serial, &self.public)?;
        Ok(der)
    }
}

#[cfg(test)]
mod tests;
