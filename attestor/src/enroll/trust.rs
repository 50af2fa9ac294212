use std::sync::Arc;

use super::task::Enroller;
use crate::{ca::x509_bundle, identity::TrustBundle};

/// Whom the node takes for its CA.
impl Enroller {
    /// A bundle came with a sync: dials trust it from now on, and it is saved.
    pub(super) fn follow_bundle(&mut self) {
        let current = self.parts.identity.borrow().as_ref().map(|identity| Arc::clone(&identity.bundle));
        if let Some(bundle) = current.filter(|bundle| *bundle != self.parts.bundle) {
            tracing::info!(
                sequence = bundle.sequence_number,
                authorities = bundle.x509_authorities.len(),
                "new bundle"
            );
            self.trust(&bundle);
            self.save();
        }
    }

    pub(super) fn trust(&mut self, bundle: &Arc<TrustBundle>) {
        match x509_bundle(&bundle.trust_domain, &bundle.x509_authorities) {
            Ok(x509) => self.parts.dialer.trust(x509),
            Err(error) => return tracing::error!(error, "the CA's bundle does not parse; the old one stays"),
        }
        self.parts.bundle = Arc::clone(bundle);
    }
}
