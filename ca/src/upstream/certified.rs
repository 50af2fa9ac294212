//! An upstream whose certificate is in files, read each time it signs; where its key is, is told by who calls.

use std::{path::PathBuf, sync::Arc};

use chancery_sdk::x509;
use rustls_pki_types::CertificateDer;

use super::{Issued, Request, UpstreamError, is_root};
use crate::{
    authority::subordinate::{Draft, Parent},
    keys::{Signer, file},
};

/// The certificates of a CA, all PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The CA's certificate, then those on the way to its root; the root itself may be among them.
    pub certificate: PathBuf,
    /// Roots to publish; absent: the last of `certificate`, which must then be a root.
    pub bundle: Option<PathBuf>,
}

impl Certified {
    /// Signs what is asked for with the key that `find` has for the CA's own public half (DER SubjectPublicKeyInfo).
    pub(super) fn issue(
        &self,
        request: &Request<'_>,
        find: impl FnOnce(&[u8]) -> Result<Arc<dyn Signer>, UpstreamError>,
    ) -> Result<Issued, UpstreamError> {
        let mut chain = file::certificates(&self.certificate)?;
        let parent = match chain.first() {
            Some(own) => Parent::new(own, find(&spki(own)?)?)?,
            None => return Err(UpstreamError::Answer("the certificate file is empty")),
        };
        let anchors = match &self.bundle {
            Some(bundle) => file::certificates(bundle)?,
            None => chain.last().filter(|last| is_root(last)).cloned().into_iter().collect(),
        };
        if anchors.is_empty() {
            return Err(UpstreamError::Answer(
                "the last certificate of `upstream.certificate` is no root: append the root, or set `upstream.bundle`",
            ));
        }
        chain.retain(|der| !anchors.contains(der));
        let (not_before, not_after) = parent.validity(request.now, request.life_secs);
        if not_after <= request.now {
            return Err(UpstreamError::Answer("the CA of `upstream.certificate` has ended; replace it and its key"));
        }
        let path_len = parent.path_len_below(None);
        let draft =
            Draft { domain: request.domain, spki: request.spki, common_name: None, path_len, not_before, not_after };
        Ok(Issued { certificate: parent.sign(&draft)?, chain, anchors })
    }

    /// The CA's own public half, DER SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Result<Vec<u8>, UpstreamError> {
        match file::certificates(&self.certificate)?.first() {
            Some(own) => spki(own),
            None => Err(UpstreamError::Answer("the certificate file is empty")),
        }
    }
}

fn spki(der: &CertificateDer<'_>) -> Result<Vec<u8>, UpstreamError> {
    x509::spki_of(der).map_err(|_| UpstreamError::Answer("the certificate in `upstream.certificate` is not DER"))
}
