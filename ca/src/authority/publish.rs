//! What the trust domain publishes about itself: every server's authorities, as the store holds them.

use std::sync::Arc;

use chancery_sdk::x509::{X509Bundle, X509BundleSet};
use rustls_pki_types::CertificateDer;

use super::{AuthorityError, AuthorityManager, Published, chain};
use crate::store::{Authority, AuthorityKind, Store};

impl AuthorityManager {
    /// Publishes what the store holds, other servers' authorities included.
    ///
    /// # Errors
    /// [`AuthorityError::Store`]; what is published stays.
    pub async fn refresh(&self, store: &Store) -> Result<(), AuthorityError> {
        let mut revision = store.bundle_revision().await?;
        let authorities = loop {
            let read = store.authorities().await?;
            let after = store.bundle_revision().await?;
            // A sequence number must never go with another content (TB-05).
            if after == revision {
                break read;
            }
            revision = after;
        };
        let refresh_hint = self.settings.refresh_hint_secs;
        let fresh = Published { authorities, sequence: revision.sequence(), refresh_hint };
        if self.published.borrow().sequence != fresh.sequence || self.published.borrow().authorities.is_empty() {
            self.bundles.store(Arc::new(self.bundle_set(&fresh.authorities)));
            self.published.send_replace(Arc::new(fresh));
        }
        Ok(())
    }

    fn bundle_set(&self, authorities: &[Authority]) -> X509BundleSet {
        let mut bundle = X509Bundle::new(self.settings.trust_domain.clone());
        let published = authorities.iter().filter(|a| a.kind == AuthorityKind::X509).flat_map(chain::in_bundle);
        for authority in published {
            if let Err(problem) = bundle.insert(CertificateDer::from(authority.public.clone())) {
                tracing::error!(%problem, authority = authority.id, "authority left out of the bundle");
            }
        }
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        set
    }
}
