//! The only place where certificates and tokens are signed, and the authorities that sign them.
//!
//! One X.509 and one JWT authority per server sign; they rotate by themselves (see `rotation`). What is
//! published is read back from the store, so every server publishes everybody's authorities.

mod der;
mod issuer;
mod profile;
mod rotation;
pub(crate) mod subordinate;
mod token;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use chancery_core::{
    leaf::{JwtGrant, Leaf},
    node::CertRef,
};
use chancery_daemon::{key_type::KeyType, public_key::PublicKey};
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    x509::{self, X509Bundle, X509BundleSet},
};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::watch;

use self::{
    issuer::{JwtIssuer, X509Issuer},
    rotation::Step,
};
use crate::{
    chance,
    keys::{self, KeyError, KeyStore, Signer},
    store::{Authority, AuthorityId, AuthorityKind, AuthorityState, Fact, Outcome, Store, StoreError},
};

/// One leaf in this many is parsed back and compared; every CA certificate is.
const SAMPLE: u64 = 64;
/// Steps of one pass; a rotation takes four, an emergency six.
const MAX_STEPS: usize = 16;

/// A signed X509-SVID.
#[derive(Clone, Debug)]
pub struct IssuedX509 {
    /// DER, leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Serial and end.
    pub cert: CertRef,
    /// The authority that signed; the commit checks that it still may.
    pub authority_id: String,
}

/// A CA that another server asks for.
#[derive(Clone, Copy, Debug)]
pub struct CaRequest<'a> {
    /// Its key: DER SubjectPublicKeyInfo, proven by its holder.
    pub spki: &'a [u8],
    /// Seconds it is to live; never longer than the authority.
    pub life_secs: i64,
}

/// A signed JWT-SVID.
#[derive(Clone, Debug)]
pub struct IssuedJwt {
    /// Compact form.
    pub token: String,
    /// `iat`.
    pub issued_at: UnixTime,
    /// `exp`.
    pub expires_at: UnixTime,
    /// The authority that signed.
    pub authority_id: String,
}

/// What the trust domain publishes about itself.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Authorities of all servers, both kinds, by ID.
    pub authorities: Vec<Authority>,
    /// `spiffe_sequence`.
    pub sequence: u64,
    /// Seconds between polls.
    pub refresh_hint: i64,
}

/// Why nothing was signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The certificate would outlive its issuer.
    #[error("{asked} is after the end of the issuing authority, {end}")]
    Issuer {
        /// End asked for.
        asked: UnixTime,
        /// notAfter of the authority.
        end: UnixTime,
    },
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was signed is not what was decided.
    #[error("signed certificate differs from the decision: {0}")]
    Mismatch(&'static str),
    /// Before the first authority is active.
    #[error("no authority is active")]
    NoAuthority,
    /// The decision cannot be written as a certificate.
    #[error("{0}")]
    Profile(&'static str),
    /// A part of the decision has no encoding.
    #[error("encoding: {0}")]
    Encoding(#[from] rcgen::Error),
}

/// Why authorities could not be read, made or rotated.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The key store.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store refused a step.
    #[error("{step}: {refusal}")]
    Refused {
        /// What was to be done.
        step: String,
        /// Why not.
        refusal: crate::store::Refusal,
    },
    /// The profile's self-check.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the manager is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The realm.
    pub trust_domain: TrustDomain,
    /// This server.
    pub server: String,
    /// Life of an authority in seconds.
    pub life_secs: i64,
    /// Least seconds between publishing and signing.
    pub publish_delay_secs: i64,
    /// Told to consumers of the bundle.
    pub refresh_hint_secs: i64,
    /// `iss` of tokens.
    pub jwt_issuer: Option<String>,
    /// Keys of X.509 authorities made from now on.
    pub x509_key_type: KeyType,
    /// Keys of JWT authorities made from now on.
    pub jwt_key_type: KeyType,
}

/// Signs, rotates and publishes.
#[derive(Debug)]
pub struct AuthorityManager {
    settings: Settings,
    keys: Arc<dyn KeyStore>,
    x509: ArcSwapOption<X509Issuer>,
    jwt: ArcSwapOption<JwtIssuer>,
    published: watch::Sender<Arc<Published>>,
    bundles: Arc<ArcSwap<X509BundleSet>>,
    signed: AtomicU64,
}

impl AuthorityManager {
    /// A manager that signs nothing until its first [`rotate`](Self::rotate).
    pub fn new(settings: Settings, keys: Arc<dyn KeyStore>) -> Self {
        Self {
            settings,
            keys,
            x509: ArcSwapOption::empty(),
            jwt: ArcSwapOption::empty(),
            published: watch::Sender::new(Arc::default()),
            bundles: Arc::default(),
            signed: AtomicU64::new(0),
        }
    }

    /// Signs a decided leaf.
    ///
    /// # Errors
    /// [`SignError`]; nothing was signed, or what was signed is thrown away.
    ///
    /// Source: X509-SVID; conformance XS-01 to XS-28.
    pub fn sign_x509(&self, leaf: &Leaf) -> Result<IssuedX509, SignError> {
        let issuer = self.x509.load_full().ok_or(SignError::NoAuthority)?;
        if leaf.not_after() > issuer.not_after {
            return Err(SignError::Issuer { asked: leaf.not_after(), end: issuer.not_after });
        }
        let der = issuer.sign(leaf)?;
        if self.signed.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE) {
            issuer::compare_leaf(&der, leaf)?;
        }
        let serial = u128::from_be_bytes(leaf.serial()).to_string();
        let cert = CertRef { serial, expires_at: leaf.not_after() };
        Ok(IssuedX509 { chain: vec![der], cert, authority_id: issuer.id.clone() })
    }

    /// Signs the CA of a downstream server, of our own trust domain.
    ///
    /// # Errors
    /// [`SignError`]; [`SignError::Profile`] where the authority may sign no CA.
    pub fn sign_ca(&self, request: &CaRequest<'_>, now: UnixTime) -> Result<IssuedX509, SignError> {
        let issuer = self.x509.load_full().ok_or(SignError::NoAuthority)?;
        let (chain, cert) = issuer.sign_ca(&self.settings.trust_domain, request, now)?;
        Ok(IssuedX509 { chain, cert, authority_id: issuer.id.clone() })
    }

    /// Signs a decided token.
    ///
    /// # Errors
    /// [`SignError`].
    ///
    /// Source: JWT-SVID; conformance JS-01 to JS-27.
    pub fn sign_jwt(&self, grant: &JwtGrant) -> Result<IssuedJwt, SignError> {
        let issuer = self.jwt.load_full().ok_or(SignError::NoAuthority)?;
        if grant.expires_at() > issuer.not_after {
            return Err(SignError::Issuer { asked: grant.expires_at(), end: issuer.not_after });
        }
        let token = token::sign(grant, &issuer.id, self.settings.jwt_issuer.as_deref(), issuer.key.as_ref())?;
        Ok(IssuedJwt {
            token,
            issued_at: grant.issued_at(),
            expires_at: grant.expires_at(),
            authority_id: issuer.id.clone(),
        })
    }

    /// notAfter of the active X.509 authority: no leaf may end later.
    pub fn x509_not_after(&self) -> Option<UnixTime> {
        self.x509.load().as_ref().map(|i| i.not_after)
    }

    /// End of the active JWT authority: no token may end later.
    pub fn jwt_not_after(&self) -> Option<UnixTime> {
        self.jwt.load().as_ref().map(|i| i.not_after)
    }

    /// ID of the active X.509 authority.
    pub fn x509_id(&self) -> Option<String> {
        self.x509.load().as_ref().map(|i| i.id.clone())
    }

    /// The trust domain's own bundle, and its changes.
    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// The trust domain's own X.509 bundle for TLS; follows every change.
    pub fn x509_bundles(&self) -> Arc<ArcSwap<X509BundleSet>> {
        Arc::clone(&self.bundles)
    }

    /// Does what is due at `now`: prepare, activate, retire, remove; then publishes what the store holds.
    ///
    /// # Errors
    /// [`AuthorityError`]; the authorities in use stay in use.
    pub async fn rotate(&self, store: &Store, now: UnixTime) -> Result<(), AuthorityError> {
        for kind in [AuthorityKind::X509, AuthorityKind::Jwt] {
            self.rotate_kind(store, kind, now).await?;
        }
        self.refresh(store).await
    }

    async fn rotate_kind(&self, store: &Store, kind: AuthorityKind, now: UnixTime) -> Result<(), AuthorityError> {
        for _ in 0..MAX_STEPS {
            let own = self.own(store, kind).await?;
            let mut here = Vec::new();
            for authority in &own {
                // A key store that is away has lost nothing: nothing is decided meanwhile.
                if self.key_of(authority)?.is_some() {
                    here.push(authority.id.as_str());
                }
            }
            let usable = |id: &str| here.contains(&id);
            let Some(step) = rotation::next(&own, &usable, now, self.settings.publish_delay_secs) else {
                return self.install(kind, &own, now);
            };
            self.take(store, kind, step, now).await?;
        }
        Ok(())
    }

    async fn own(&self, store: &Store, kind: AuthorityKind) -> Result<Vec<Authority>, StoreError> {
        let all = store.authorities().await?;
        Ok(all.into_iter().filter(|a| a.kind == kind && a.server == self.settings.server).collect())
    }

    async fn take(&self, store: &Store, kind: AuthorityKind, step: Step, now: UnixTime) -> Result<(), AuthorityError> {
        let told = format!("{step:?} ({kind})");
        let gone = match &step {
            Step::Remove(id) => self.own(store, kind).await?.into_iter().find(|a| a.id == *id),
            Step::Activate(_) | Step::Prepare | Step::Retire(_) => None,
        };
        let fact = match step {
            Step::Activate(id) => Fact::ActivateAuthority(AuthorityId { id }),
            Step::Prepare => Fact::PrepareAuthority(self.prepare(kind, now)?),
            Step::Remove(id) => Fact::RemoveAuthority(AuthorityId { id }),
            Step::Retire(id) => Fact::RetireAuthority(AuthorityId { id }),
        };
        let outcome = store.commit(fact).await?;
        if let Outcome::Refused(refusal) = outcome {
            return Err(AuthorityError::Refused { step: told, refusal });
        }
        tracing::info!(step = told, "authority");
        if let Some(gone) = gone
            && let Some((label, key)) = self.key_of(&gone)?
        {
            self.keys.delete(&label, key.spki())?;
        }
        Ok(())
    }

    /// The key of an authority, with its label, by its public half; `None` when it is not in this key store.
    fn key_of(&self, authority: &Authority) -> Result<Option<(String, Arc<dyn Signer>)>, KeyError> {
        let spki = match authority.kind {
            AuthorityKind::Jwt => Some(authority.public.clone()),
            AuthorityKind::X509 => x509::spki_of(&authority.public).ok(),
        };
        for label in self.keys.labels()? {
            match self.keys.open(&label, None) {
                Ok(Some(key)) if Some(key.spki()) == spki.as_deref() => return Ok(Some((label, key))),
                // What a token does not show now is not lost.
                Err(away @ KeyError::Token(_)) => return Err(away),
                // Another key, or one that cannot be used: as good as none.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    fn prepare(&self, kind: AuthorityKind, now: UnixTime) -> Result<Authority, AuthorityError> {
        let (purpose, key_type) = match kind {
            AuthorityKind::Jwt => ("jwt", self.settings.jwt_key_type),
            AuthorityKind::X509 => ("x509", self.settings.x509_key_type),
        };
        let uuid = chance::uuid_v4().map_err(|_| KeyError::Randomness)?;
        let key = self.keys.generate(&keys::label::fresh(purpose, uuid), key_type)?;
        let not_before = now.plus(-rotation::BACKDATE_SECS);
        let not_after = now.plus(self.settings.life_secs);
        let public = match kind {
            AuthorityKind::Jwt => key.spki().to_vec(),
            AuthorityKind::X509 => {
                issuer::self_signed(&self.settings.trust_domain, &key, not_before, not_after)?.to_vec()
            }
        };
        let bits = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
        let id = hex::encode(profile::key_id(bits.bits()));
        let server = self.settings.server.clone();
        Ok(Authority { id, kind, server, state: AuthorityState::Prepared, public, not_before, not_after })
    }

    /// Lets the newest active authority sign from now on.
    fn install(&self, kind: AuthorityKind, own: &[Authority], now: UnixTime) -> Result<(), AuthorityError> {
        let active = own.iter().filter(|a| a.state == AuthorityState::Active && now < a.not_after);
        let Some(active) = active.max_by_key(|a| a.not_before) else { return Ok(()) };
        let in_use = match kind {
            AuthorityKind::Jwt => self.jwt.load().as_ref().map(|i| i.id.clone()),
            AuthorityKind::X509 => self.x509_id(),
        };
        if in_use.as_deref() == Some(&active.id) {
            return Ok(());
        }
        let Some((_, key)) = self.key_of(active)? else { return Ok(()) };
        match kind {
            AuthorityKind::Jwt => self.jwt.store(Some(Arc::new(JwtIssuer::new(active, key)))),
            AuthorityKind::X509 => {
                let issuer = X509Issuer::new(active, key)?;
                issuer.lint(&self.settings.trust_domain, now)?;
                self.x509.store(Some(Arc::new(issuer)));
            }
        }
        Ok(())
    }

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
        for authority in authorities.iter().filter(|a| a.kind == AuthorityKind::X509) {
            if let Err(problem) = bundle.insert(CertificateDer::from(authority.public.clone())) {
                tracing::error!(%problem, authority = authority.id, "authority left out of the bundle");
            }
        }
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        set
    }
}

#[cfg(test)]
mod tests;
