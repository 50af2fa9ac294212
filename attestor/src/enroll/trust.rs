use std::sync::Arc;

use chancery_daemon::clock;

use super::task::Enroller;
use crate::{
    ca::x509_bundle,
    crypto::fraction,
    identity::{TrustBundle, signers},
    plan::taint_due,
};

/// A place in the window, by chance.
fn random_spread() -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of 65,535 is below it and positive"
    )]
    let spread = (fraction() * f64::from(u16::MAX)) as u16;
    spread
}

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
            self.hasten(&bundle);
        }
    }

    /// The node's own SVID is replaced soon where its authority is tainted, each node at a moment of its own.
    fn hasten(&mut self, bundle: &TrustBundle) {
        let Some(held) = &mut self.held else { return };
        if !signers(&held.chain).is_disjoint(&bundle.tainted) {
            held.due = held.due.min(taint_due(clock::now(), held.not_after, random_spread()));
            tracing::warn!(due = %held.due, "the authority of the node's SVID is tainted; the SVID is replaced");
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
