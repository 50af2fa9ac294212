//! The one place where an authority is made of a key.

use std::sync::Arc;

use chancery_daemon::public_key::PublicKey;
use chancery_sdk::time::UnixTime;

use super::{AuthorityError, AuthorityManager, SignError, issuer, profile, rotation};
use crate::{
    keys::Signer,
    store::{Authority, AuthorityKind, AuthorityState, KeyRecord},
};

/// An X.509 authority's certificate, and what goes along with it.
pub(super) struct Certificate {
    /// DER.
    pub der: Vec<u8>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity; never after that of what signed it.
    pub not_after: UnixTime,
    /// See [`Authority::chain`].
    pub chain: Vec<u8>,
    /// See [`Authority::upstream_id`].
    pub upstream_id: String,
}

impl AuthorityManager {
    /// The authority of a generated key, not published yet.
    pub(super) async fn certify(
        &self,
        row: &KeyRecord,
        key: Arc<dyn Signer>,
        now: UnixTime,
    ) -> Result<Authority, AuthorityError> {
        let public = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
        let id = hex::encode(profile::key_id(public.bits()));
        let made = match row.kind {
            AuthorityKind::Jwt => Certificate {
                der: key.spki().to_vec(),
                not_before: now.plus(-rotation::BACKDATE_SECS),
                not_after: now.plus(self.settings.life_secs),
                chain: Vec::new(),
                upstream_id: String::new(),
            },
            AuthorityKind::X509 => self.ca_certificate(key, now).await?,
        };
        Ok(Authority {
            id,
            kind: row.kind,
            server: self.settings.server.clone(),
            state: AuthorityState::Prepared,
            public: made.der,
            not_before: made.not_before,
            not_after: made.not_after,
            label: row.label.clone(),
            chain: made.chain,
            upstream_id: made.upstream_id,
            published_at: now,
            tainted_at: None,
        })
    }

    /// The CA certificate of an X.509 authority: it signs itself and is in the bundle.
    async fn ca_certificate(&self, key: Arc<dyn Signer>, now: UnixTime) -> Result<Certificate, AuthorityError> {
        let not_before = now.plus(-rotation::BACKDATE_SECS);
        let not_after = now.plus(self.settings.life_secs);
        let domain = self.settings.trust_domain.clone();
        let signed = super::on_thread(move || issuer::self_signed(&domain, &key, not_before, not_after)).await??;
        let (chain, upstream_id) = (Vec::new(), String::new());
        Ok(Certificate { der: signed.to_vec(), not_before, not_after, chain, upstream_id })
    }
}
