//! CA certificates that are not an authority's own: roots of a ceremony, and CAs that another CA signs.
//!
//! No name constraints are written. Verifiers built on webpki, ours among them, refuse every leaf below a URI
//! constraint; what bounds a CA to its trust domain is the bundle it is published in. Source: docs/decisions/0031.

pub(crate) mod crl;
pub(crate) mod cross;

use std::{fmt, sync::Arc};

use chancery_daemon::public_key::PublicKey;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
    x509,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{
    SignError,
    der::{self, IssuerParts, ca},
    issuer::serial,
    profile,
};
use crate::keys::Signer;

/// Longest path length written: more intermediates than any verifier here follows.
pub(crate) const MAX_PATH_LEN: u8 = 4;

/// A CA certificate to be made.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    /// Its realm, and with it its SPIFFE ID.
    pub domain: &'a TrustDomain,
    /// Its key: DER SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// For people.
    pub common_name: Option<&'a str>,
    /// CAs that may follow below it; `None`: any number. At most [`MAX_PATH_LEN`].
    pub path_len: Option<u8>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
}

/// Whose certificate it is.
pub(super) struct Holder<'a> {
    /// DER Name.
    pub name: &'a [u8],
    /// Subject key identifier.
    pub key_id: &'a [u8],
}

/// A CA that may sign other CAs: its certificate, and its key.
pub(crate) struct Parent {
    key: Arc<dyn Signer>,
    public: PublicKey,
    parts: IssuerParts,
    not_before: UnixTime,
    not_after: UnixTime,
    path_len: Option<u32>,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Parent {
    /// A CA certificate (DER) and the key it is for.
    ///
    /// # Errors
    /// [`SignError::Profile`] saying why it cannot sign CAs, [`SignError::Mismatch`] for another key's certificate.
    pub(crate) fn new(certificate: &CertificateDer<'_>, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let parent = Self::read(certificate, key)?;
        match parent.path_len {
            Some(0) => Err(SignError::Profile("the CA certificate has path length 0 and may sign no other CA")),
            _ => Ok(parent),
        }
    }

    /// A CA certificate (DER), whatever its path length, and the key it is for.
    fn read(certificate: &CertificateDer<'_>, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let public = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignError::Mismatch("shape"))?;
        if !rest.is_empty() {
            return Err(SignError::Profile("bytes follow the CA certificate"));
        }
        if parsed.public_key().raw != key.spki() {
            return Err(SignError::Mismatch("CA certificate's key: it is for another key than the one given"));
        }
        let path_len = path_len(&parsed)?;
        own_names(&parsed)?;
        let key_id = x509::subject_key_id(certificate);
        let key_id = key_id.ok_or(SignError::Profile("the CA certificate has no subject key identifier"))?;
        let parts = IssuerParts::new(parsed.subject().as_raw(), &key_id, key.key_type());
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (UnixTime(not_before.timestamp()), UnixTime(not_after.timestamp()));
        Ok(Self { key, public, parts, not_before, not_after, path_len })
    }

    /// Validity of `life_secs` from `now`, backdated, inside this CA's own.
    pub(crate) fn validity(&self, now: UnixTime, life_secs: i64) -> (UnixTime, UnixTime) {
        let not_before = now.plus(-super::rotation::BACKDATE_SECS).max(self.not_before);
        (not_before, now.plus(life_secs).min(self.not_after))
    }

    /// Path length that a CA below this one may have, where `wanted` is the most that is asked for.
    pub(crate) fn path_len_below(&self, wanted: Option<u8>) -> Option<u8> {
        let most = self.path_len.map(|own| u8::try_from(own.saturating_sub(1)).unwrap_or(MAX_PATH_LEN));
        match (most, wanted) {
            (Some(most), Some(wanted)) => Some(most.min(wanted)),
            (most, wanted) => most.or(wanted),
        }
    }

    /// Signs a CA below this one, reads it back and checks it.
    ///
    /// # Errors
    /// [`SignError::Issuer`] if it would outlive this CA, [`SignError::Profile`] if it could have more below it.
    pub(crate) fn sign(&self, draft: &Draft<'_>) -> Result<CertificateDer<'static>, SignError> {
        self.may_sign(draft)?;
        let serial = serial()?;
        let (name, key_id) = (ca::subject(draft, serial)?, key_id(draft)?);
        let holder = Holder { name: &name, key_id: &key_id };
        let der = finish(draft, &holder, serial, &self.parts, self.key.as_ref(), true)?;
        check(&der, draft, &holder, serial, &self.public)?;
        Ok(der)
    }

    fn may_sign(&self, draft: &Draft<'_>) -> Result<(), SignError> {
        if draft.not_after > self.not_after {
            return Err(SignError::Issuer { asked: draft.not_after, end: self.not_after });
        }
        if draft.not_before < self.not_before {
            return Err(SignError::Profile("the CA would begin before the one that signs it"));
        }
        if self.path_len.is_some_and(|own| draft.path_len.is_none_or(|below| u32::from(below) >= own)) {
            return Err(SignError::Profile("the path length is not below that of the CA that signs"));
        }
        if draft.spki == self.key.spki() {
            return Err(SignError::Profile("the CA to be signed has the key of the CA that signs"));
        }
        Ok(())
    }
}

/// Makes a root: a CA certificate that its own key signs, read back and checked.
///
/// # Errors
/// [`SignError`]; nothing is given out then.
pub(crate) fn root(draft: &Draft<'_>, key: &dyn Signer) -> Result<CertificateDer<'static>, SignError> {
    let public = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
    if draft.spki != key.spki() {
        return Err(SignError::Mismatch("public key"));
    }
    let serial = serial()?;
    let (name, key_id) = (ca::subject(draft, serial)?, key_id(draft)?);
    let holder = Holder { name: &name, key_id: &key_id };
    let parts = IssuerParts::new(&name, &[], key.key_type());
    let der = finish(draft, &holder, serial, &parts, key, false)?;
    check(&der, draft, &holder, serial, &public)?;
    Ok(der)
}

/// The key identifier of a drafted CA's own key.
fn key_id(draft: &Draft<'_>) -> Result<Vec<u8>, SignError> {
    let public = PublicKey::from_spki(draft.spki).ok_or(SignError::Profile("the key is of no known kind"))?;
    Ok(profile::key_id(public.bits()))
}

fn finish(
    draft: &Draft<'_>,
    holder: &Holder<'_>,
    serial: [u8; 16],
    issuer: &IssuerParts,
    key: &dyn Signer,
    issuer_key_id: bool,
) -> Result<CertificateDer<'static>, SignError> {
    if draft.not_after <= draft.not_before {
        return Err(SignError::Profile("the CA would end before it begins"));
    }
    if draft.path_len.is_some_and(|len| len > MAX_PATH_LEN) {
        return Err(SignError::Profile("the path length is above 4"));
    }
    let tbs = ca::tbs(draft, holder, serial, issuer, issuer_key_id)?;
    Ok(CertificateDer::from(der::certificate(&tbs, issuer, &key.sign(&tbs)?)))
}

/// Reads a signed CA certificate back: what was drafted, and a signature of `signer`.
fn check(
    der: &[u8],
    draft: &Draft<'_>,
    holder: &Holder<'_>,
    serial: [u8; 16],
    signer: &PublicKey,
) -> Result<(), SignError> {
    let want = profile::Expected {
        uri: draft.domain.id().to_string(),
        dns_names: &[],
        spki: draft.spki,
        serial,
        not_before: draft.not_before,
        not_after: draft.not_after,
        is_ca: true,
    };
    profile::compare(der, &want)?;
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| SignError::Mismatch("shape"))?;
    if path_len(&parsed)? != draft.path_len.map(u32::from) {
        return Err(SignError::Mismatch("path length"));
    }
    if parsed.subject().as_raw() != holder.name || x509::subject_key_id(der).as_deref() != Some(holder.key_id) {
        return Err(SignError::Mismatch("subject"));
    }
    match signer.verifies(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data) {
        true => Ok(()),
        false => Err(SignError::Mismatch("signature")),
    }
}

/// Judges a CA certificate that somebody else signed: it is for this key, may sign, and names this realm or none.
///
/// # Errors
/// [`SignError::Mismatch`], [`SignError::Profile`].
pub(crate) fn judge(der: &[u8], domain: &TrustDomain, spki: &[u8]) -> Result<(), SignError> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| SignError::Mismatch("shape"))?;
    if !rest.is_empty() || parsed.public_key().raw != spki {
        return Err(SignError::Mismatch("CA certificate's key"));
    }
    path_len(&parsed)?;
    match own_names(&parsed)? {
        Some(id) if id != domain.id() => Err(SignError::Profile("the CA certificate is for another trust domain")),
        _ => Ok(()),
    }
}

/// The path length of a certificate that may sign certificates.
fn path_len(certificate: &X509Certificate<'_>) -> Result<Option<u32>, SignError> {
    let unreadable = |_| SignError::Profile("an extension of the CA certificate is unreadable or doubled");
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    let usage = certificate.key_usage().map_err(unreadable)?;
    let Some(constraints) = constraints.filter(|c| c.value.ca) else {
        return Err(SignError::Profile("the certificate is not a CA's"));
    };
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(SignError::Profile("the CA certificate's key usage does not let it sign certificates"));
    }
    Ok(constraints.value.path_len_constraint)
}

/// A CA's own SPIFFE ID, which has no path (XS-15); without one it is no SVID, and fine (CF-03).
fn own_names(certificate: &X509Certificate<'_>) -> Result<Option<SpiffeId>, SignError> {
    let Ok(names) = certificate.subject_alternative_name() else {
        return Err(SignError::Profile("the CA certificate's names are unreadable"));
    };
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => SpiffeId::parse(uri).ok(),
        _ => None,
    });
    let ids: Vec<_> = uris.collect();
    match ids.as_slice() {
        [] => Ok(None),
        [id] if id.path().is_empty() => Ok(Some(id.clone())),
        _ => Err(SignError::Profile("the CA certificate has several SPIFFE IDs, or one with a path")),
    }
}

/// Signs what `parent` may not sign, for tests of those who must notice.
#[cfg(test)]
pub(crate) fn signed_unjudged(parent: &[u8], key: &dyn Signer, draft: &Draft<'_>) -> CertificateDer<'static> {
    let (_, parsed) = X509Certificate::from_der(parent).unwrap();
    let parts = IssuerParts::new(parsed.subject().as_raw(), &x509::subject_key_id(parent).unwrap(), key.key_type());
    let serial = serial().unwrap();
    let (name, key_id) = (ca::subject(draft, serial).unwrap(), key_id(draft).unwrap());
    finish(draft, &Holder { name: &name, key_id: &key_id }, serial, &parts, key, true).unwrap()
}

#[cfg(test)]
mod tests;
