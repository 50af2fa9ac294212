//! The one place where an authority is made of a key.

use std::sync::Arc;

use chancery_daemon::public_key::PublicKey;
use chancery_sdk::time::UnixTime;

use super::{AuthorityError, AuthorityManager, Settings, SignError, chain::Chain, issuer, profile, rotation};
use crate::{
    keys::Signer,
    store::{Authority, AuthorityKind, AuthorityState, KeyRecord},
    upstream::{Issued, JwtKey, Request, Upstream, UpstreamError},
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
        let signer = Arc::clone(&key);
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
        let mut authority = self.authority_of(row, signer.as_ref(), made, now)?;
        if authority.kind == AuthorityKind::Jwt {
            // Above first: whoever verifies there has the key for as long as whoever verifies here.
            let (id, spki) = (authority.id.clone(), authority.public.clone());
            let key = JwtKey { id, spki, not_after: authority.not_after };
            authority.not_after = self.publish_above(key).await?.unwrap_or(authority.not_after);
            if authority.not_after <= now {
                return Err(UpstreamError::Answer("it ends our JWT key before it signs").into());
            }
        }
        Ok(authority)
    }

    /// Has the server above publish a JWT key; the end it has there, or `None` where nobody above publishes keys.
    ///
    /// # Errors
    /// [`AuthorityError::Upstream`].
    pub async fn publish_above(&self, key: JwtKey) -> Result<Option<UnixTime>, AuthorityError> {
        let Some(upstream) = self.settings.upstream.clone() else { return Ok(None) };
        Ok(super::on_thread(move || upstream.publish(&key)).await??)
    }

    /// The record of an authority that is published from `now` on.
    pub(super) fn authority_of(
        &self,
        row: &KeyRecord,
        key: &dyn Signer,
        made: Certificate,
        now: UnixTime,
    ) -> Result<Authority, AuthorityError> {
        let public = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
        Ok(Authority {
            id: hex::encode(profile::key_id(public.bits())),
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

    /// The CA certificate of an X.509 authority: it signs itself and is in the bundle, or an upstream signs it.
    async fn ca_certificate(&self, key: Arc<dyn Signer>, now: UnixTime) -> Result<Certificate, AuthorityError> {
        if let Some(upstream) = self.settings.upstream.clone() {
            let settings = self.settings.clone();
            return super::on_thread(move || below(upstream.as_ref(), &settings, &key, now)).await?;
        }
        let not_before = now.plus(-rotation::BACKDATE_SECS);
        let not_after = now.plus(self.settings.life_secs);
        let domain = self.settings.trust_domain.clone();
        let signed = super::on_thread(move || issuer::self_signed(&domain, &key, not_before, not_after)).await??;
        let (chain, upstream_id) = (Vec::new(), String::new());
        Ok(Certificate { der: signed.to_vec(), not_before, not_after, chain, upstream_id })
    }
}

/// Has an upstream sign.
fn below(
    upstream: &dyn Upstream,
    settings: &Settings,
    key: &Arc<dyn Signer>,
    now: UnixTime,
) -> Result<Certificate, AuthorityError> {
    let domain = &settings.trust_domain;
    let csr = issuer::request(domain, key)?;
    let request = Request { domain, spki: key.spki(), csr: &csr, now, life_secs: settings.life_secs };
    let judged = judged(upstream.issue(&request)?, &request, key, settings.delegated_issuer_secs);
    judged.map_err(|error| match error {
        // Whatever no verifier would accept is the upstream's answer, and is asked for again later.
        AuthorityError::Sign(problem) => UpstreamError::Sign(problem).into(),
        other => other,
    })
}

/// Judges what somebody above answered as a verifier of leaves would, those of a delegated issuer too.
pub(super) fn judged(
    issued: Issued,
    request: &Request<'_>,
    key: &Arc<dyn Signer>,
    delegated: Option<i64>,
) -> Result<Certificate, AuthorityError> {
    let (domain, now) = (request.domain, request.now);
    let (not_before, not_after, upstream_id) = issued.judged(request)?;
    let der = issued.certificate.to_vec();
    let sent = std::iter::once(issued.certificate).chain(issued.chain).collect();
    let chain = Chain { sent, anchors: issued.anchors }.to_bytes();
    let made = Certificate { der, not_before, not_after, chain, upstream_id };
    let issuer = issuer::X509Issuer::read(&made.der, &made.chain, not_after, Arc::clone(key))?;
    issuer.lint(domain, now)?;
    if let Some(life_secs) = delegated {
        issuer.delegate(domain, life_secs, now)?.lint(domain, now)?;
    }
    Ok(made)
}
