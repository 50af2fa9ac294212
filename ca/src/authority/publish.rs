//! What the trust domain publishes about itself: every server's authorities, as the store holds them.

use std::sync::Arc;

use chancery_sdk::x509::{X509Bundle, X509BundleSet};
use rustls_pki_types::CertificateDer;

use super::{AuthorityError, AuthorityManager, Published, chain};
use crate::store::{Authority, AuthorityKind, AuthorityState, Guest, Store};

impl AuthorityManager {
    /// Publishes what the store holds, other servers' authorities included.
    ///
    /// # Errors
    /// [`AuthorityError::Store`]; what is published stays.
    pub async fn refresh(&self, store: &Store) -> Result<(), AuthorityError> {
        let mut revision = store.bundle_revision().await?;
        let (authorities, guests) = loop {
            let read = (store.authorities().await?, store.guests().await?);
            let after = store.bundle_revision().await?;
            // A sequence number must never go with another content (TB-05).
            if after == revision {
                break read;
            }
            revision = after;
        };
        let refresh_hint = self.settings.refresh_hint_secs;
        let fresh = Published { authorities, guests, sequence: revision.sequence(), refresh_hint };
        if self.published.borrow().sequence != fresh.sequence || self.published.borrow().authorities.is_empty() {
            self.bundles.store(Arc::new(self.bundle_set(&fresh)));
            self.published.send_replace(Arc::new(fresh));
        }
        Ok(())
    }

    fn bundle_set(&self, published: &Published) -> X509BundleSet {
        let mut bundle = X509Bundle::new(self.settings.trust_domain.clone());
        for authority in published.bundle(AuthorityKind::X509) {
            if let Err(problem) = bundle.insert(CertificateDer::from(authority.public.clone())) {
                tracing::error!(%problem, authority = authority.id, "authority left out of the bundle");
            }
        }
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        set
    }
}

impl Published {
    /// The bundle's authorities of one kind, each public half once: our servers', then those above and below.
    ///
    /// An authority below an upstream stands for its anchors, unless its server follows the upstream's whole bundle:
    /// then that alone says which roots there are, so that what is taken out above goes here too.
    pub fn bundle(&self, kind: AuthorityKind) -> Vec<Authority> {
        let follows = |server: &str| self.guests.iter().any(|g| g.kind == kind && g.follower() == Some(server));
        let own = self.authorities.iter().filter(|a| a.kind == kind);
        let own = own.flat_map(|authority| match !authority.chain.is_empty() && follows(&authority.server) {
            true => chain::flagged(authority),
            false => chain::in_bundle(authority),
        });
        let mut bundle: Vec<Authority> = Vec::new();
        for authority in own.chain(self.guests.iter().filter(|g| g.kind == kind).map(guest)) {
            if let Some(known) = bundle.iter_mut().find(|known| known.public == authority.public) {
                // Whoever mistrusts it is right.
                known.tainted_at = known.tainted_at.or(authority.tainted_at);
                continue;
            }
            match kind == AuthorityKind::Jwt && bundle.iter().any(|known| known.id == authority.id) {
                // Two keys under one ID would be told apart by nobody; ours is meant.
                true => {
                    tracing::error!(key = authority.id, "a key from elsewhere has the ID of another; it is left out");
                }
                false => bundle.push(authority),
            }
        }
        bundle
    }
}

/// A guest in the form of an authority.
fn guest(guest: &Guest) -> Authority {
    let id = match guest.kind {
        AuthorityKind::Jwt => guest.id.clone(),
        AuthorityKind::X509 => chancery_sdk::x509::subject_key_id(&CertificateDer::from(guest.public.as_slice()))
            .map(hex::encode)
            .unwrap_or_default(),
    };
    Authority {
        id,
        kind: guest.kind,
        server: guest.source.clone(),
        state: AuthorityState::Active,
        public: guest.public.clone(),
        not_before: guest.published_at,
        not_after: guest.not_after,
        label: String::new(),
        chain: Vec::new(),
        upstream_id: String::new(),
        published_at: guest.published_at,
        tainted_at: guest.tainted_at,
    }
}
