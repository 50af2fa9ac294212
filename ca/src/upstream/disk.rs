//! An upstream whose key is in a file: read each time it signs, so that files can be replaced while the CA runs.

use std::path::PathBuf;

use super::{Issued, Request, Upstream, UpstreamError, is_root};
use crate::{
    authority::subordinate::{Draft, Parent},
    keys::file,
};

/// A CA in files, all PEM.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The CA's certificate, then those on the way to its root; the root itself may be among them.
    pub certificate: PathBuf,
    /// The CA's key, mode 0600.
    pub key: PathBuf,
    /// Roots to publish; absent: the last of `certificate`, which must then be a root.
    pub bundle: Option<PathBuf>,
}

impl Upstream for Disk {
    fn issue(&self, request: &Request<'_>) -> Result<Issued, UpstreamError> {
        let mut chain = file::certificates(&self.certificate)?;
        let parent = match chain.first() {
            Some(own) => Parent::new(own, file::signer(&self.key)?)?,
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
}
