//! An upstream whose key is in a file: read each time it signs, so that files can be replaced while the CA runs.

use std::path::PathBuf;

use super::{Issued, Request, Upstream, UpstreamError, certified::Certified};
use crate::keys::file;

/// A CA in files.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its certificates.
    pub certified: Certified,
    /// Its key: PEM, mode 0600.
    pub key: PathBuf,
}

impl Upstream for Disk {
    fn issue(&self, request: &Request<'_>) -> Result<Issued, UpstreamError> {
        self.certified.issue(request, |_| Ok(file::signer(&self.key)?))
    }
}
