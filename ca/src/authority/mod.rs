//! The only place where certificates and tokens are signed, and the authorities that sign them.
//!
//! One X.509 and one JWT authority per server sign; they rotate by themselves (see `rotation`). What is
//! published is read back from the store, so every server publishes everybody's authorities.

mod certify;
pub(crate) mod chain;
mod crash;
mod der;
mod follow;
mod issuer;
mod life;
mod lists;
pub(crate) mod offline;
mod operate;
mod profile;
mod publish;
mod recover;
mod rotation;
mod steps;
pub(crate) mod subordinate;
mod token;

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use chancery_core::{
    leaf::{JwtGrant, Leaf},
    node::CertRef,
};
use chancery_daemon::{clock::Clock, key_type::KeyType};
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    x509::{self, X509BundleSet},
};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::{Mutex, watch};

pub use self::lists::{List, ListIssuer, MOST};
use self::{
    issuer::{JwtIssuer, X509Issuer},
    life::{Life, When},
    offline::{Need, Offline, OfflineError},
    rotation::OwnKey,
};
use crate::{
    keys::{KeyError, KeyStore},
    store::{Authority, AuthorityKind, AuthorityState, Guest, Store, StoreError},
    upstream::{Upstream, UpstreamError},
};

/// One leaf in this many is parsed back and compared; every CA certificate is.
const SAMPLE: u64 = 64;
/// Steps of one pass; a rotation takes six, an emergency eight.
const MAX_STEPS: usize = 16;
/// Looks for a missing key before the CA starts without it.
const LOOKS: usize = 3;

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
    /// Authorities whose keys are above or below this database's servers.
    pub guests: Vec<Guest>,
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
    /// A verifier would not accept what this authority signs.
    #[error("no verifier would accept a leaf of this authority: {0}")]
    Probe(#[from] x509::VerifyError),
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
    /// A thread that used a key ended too soon.
    #[error("a thread that used a key died: {0}")]
    Died(String),
    /// The key store.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is signed offline.
    #[error(transparent)]
    Offline(#[from] OfflineError),
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
    /// What is above this server.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The key store made no key lately.
    #[error("the key store made no key; it is asked again in {secs} s")]
    Waiting {
        /// Seconds.
        secs: i64,
    },
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
    /// Longest SVID that the configuration issues, in seconds.
    pub longest_ttl_secs: i64,
    /// Least seconds between condemning a key and destroying it.
    pub destroy_after_secs: i64,
    /// Seconds a key is missing from a persistent store before it is lost.
    pub missing_patience_secs: i64,
    /// Seconds a key in memory signs leaves for the X.509 authority; `None`: the authority signs them itself.
    pub delegated_issuer_secs: Option<i64>,
    /// Signs X.509 authorities; `None`: they sign themselves.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// X.509 authorities are signed at a ceremony, and people carry them; then there is no `upstream`.
    pub offline: Option<Offline>,
}

/// Signs, rotates and publishes.
#[derive(Debug)]
pub struct AuthorityManager {
    settings: Settings,
    keys: Arc<dyn KeyStore>,
    x509: ArcSwapOption<X509Issuer>,
    jwt: ArcSwapOption<JwtIssuer>,
    /// Delegated issuers of this run that have not ended: their lists are signed while what they signed is valid.
    // Guards the list; held for a push or a walk, never over an await.
    delegates: SyncMutex<Vec<Arc<X509Issuer>>>,
    published: watch::Sender<Arc<Published>>,
    bundles: Arc<ArcSwap<X509BundleSet>>,
    signed: AtomicU64,
    /// Guards every change of this server's keys; held while a key is made, hence tokio's.
    life: Mutex<Life>,
    /// Labels in the key store without a row in the journal.
    orphans: ArcSwap<Vec<String>>,
    /// What people have to fetch from the ceremony.
    need: watch::Sender<Need>,
    /// Why the upstream did not sign when it was last asked.
    trouble: ArcSwapOption<(AuthorityKind, String)>,
}

impl AuthorityManager {
    /// A manager that signs nothing until its first [`rotate`](Self::rotate).
    pub fn new(settings: Settings, keys: Arc<dyn KeyStore>) -> Self {
        Self {
            settings,
            keys,
            x509: ArcSwapOption::empty(),
            jwt: ArcSwapOption::empty(),
            delegates: SyncMutex::default(),
            published: watch::Sender::new(Arc::default()),
            bundles: Arc::default(),
            signed: AtomicU64::new(0),
            life: Mutex::default(),
            orphans: ArcSwap::default(),
            need: watch::Sender::default(),
            trouble: ArcSwapOption::empty(),
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
        let chain = [der].into_iter().chain(issuer.chain.iter().cloned()).collect();
        Ok(IssuedX509 { chain, cert, authority_id: issuer.id.clone() })
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

    /// ID of the active JWT authority.
    pub fn jwt_id(&self) -> Option<String> {
        self.jwt.load().as_ref().map(|i| i.id.clone())
    }

    /// Whether the authority is published and not tainted.
    pub fn stands(&self, id: &str) -> bool {
        self.published.borrow().authorities.iter().any(|a| a.id == id && a.tainted_at.is_none())
    }

    /// Labels of keys in the key store that have no row in the journal, as last seen.
    pub fn orphans(&self) -> Arc<Vec<String>> {
        self.orphans.load_full()
    }

    /// Why the upstream did not sign when it was last asked, or could not now; `None` where all is well.
    pub fn upstream_trouble(&self) -> Option<String> {
        let away = self.settings.upstream.as_ref().and_then(|upstream| upstream.away());
        away.or_else(|| self.trouble.load().as_ref().map(|told| told.1.clone()))
    }

    /// The trust domain's own bundle, and its changes.
    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// The trust domain's own X.509 bundle for TLS; follows every change.
    pub fn x509_bundles(&self) -> Arc<ArcSwap<X509BundleSet>> {
        Arc::clone(&self.bundles)
    }

    /// Compares the journal with the key store, waits for keys that are slow to show, then [`rotate`](Self::rotate)s.
    ///
    /// # Errors
    /// [`AuthorityError`]; among them a key in use whose public half is not the recorded one.
    pub async fn start(&self, store: &Store, clock: &Clock) -> Result<(), AuthorityError> {
        {
            let mut life = self.life.lock().await;
            self.inspect(store, &mut life, When::Starting, clock()).await?;
            for _ in 0..LOOKS {
                if !life.waits() {
                    break;
                }
                tracing::warn!(secs = life::LOOK_AGAIN_SECS, "keys are not in their store; looking again");
                tokio::time::sleep(Duration::from_secs(life::LOOK_AGAIN_SECS.unsigned_abs())).await;
                self.inspect(store, &mut life, When::Starting, clock()).await?;
            }
        }
        self.rotate(store, clock()).await
    }

    /// Does what is due at `now`: plan, make, prepare, activate, retire, remove, destroy; then publishes what the store
    /// holds. One kind's trouble does not keep the other from its turn.
    ///
    /// # Errors
    /// The first [`AuthorityError`]; the authorities in use stay in use.
    pub async fn rotate(&self, store: &Store, now: UnixTime) -> Result<(), AuthorityError> {
        let mut life = self.life.lock().await;
        let mut told = Ok(());
        if now >= life.inspect_at {
            told = self.inspect(store, &mut life, When::Serving, now).await;
        }
        for kind in [AuthorityKind::X509, AuthorityKind::Jwt] {
            told = told.and(self.rotate_kind(store, &mut life, kind, now).await);
        }
        if now >= life.inspect_at {
            told = told.and(self.inspect(store, &mut life, When::Serving, now).await);
        }
        drop(life);
        told.and(self.refresh(store).await)
    }

    /// Lets the active authority sign from now on. Where none may, the store refuses what the one before still signs.
    async fn install(
        &self,
        kind: AuthorityKind,
        own: &[OwnKey],
        life: &Life,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let able = own.iter().filter(|k| k.usable).filter_map(|k| k.authority.as_ref());
        let able = able.filter(|a| a.state == AuthorityState::Active && now < a.not_after && a.tainted_at.is_none());
        let Some(active) = able.max_by_key(|a| (a.not_before, a.published_at)).cloned() else { return Ok(()) };
        let in_use = match kind {
            AuthorityKind::Jwt => self.jwt_id(),
            AuthorityKind::X509 => self.x509_id(),
        };
        let worn = kind == AuthorityKind::X509 && self.x509.load().as_ref().is_some_and(|i| i.is_worn(now));
        if in_use.as_deref() == Some(&active.id) && !worn {
            return Ok(());
        }
        let Some(key) = life.here.get(&active.label).cloned() else { return Ok(()) };
        match kind {
            AuthorityKind::Jwt => self.jwt.store(Some(Arc::new(JwtIssuer::new(&active, key)))),
            AuthorityKind::X509 => {
                let domain = self.settings.trust_domain.clone();
                let delegated = self.settings.delegated_issuer_secs;
                let linted = on_thread(move || {
                    let issuer = X509Issuer::new(&active, key)?;
                    issuer.lint(&domain, now)?;
                    let Some(life_secs) = delegated else { return Ok::<_, SignError>(issuer) };
                    let below = issuer.delegate(&domain, life_secs, now)?;
                    below.lint(&domain, now)?;
                    Ok(below)
                });
                let issuer = Arc::new(linted.await??);
                if issuer.is_delegated() {
                    self.delegates.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&issuer));
                }
                self.x509.store(Some(issuer));
            }
        }
        Ok(())
    }
}

/// Runs what may block: a key store can be a device, or far away.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthorityError> {
    tokio::task::spawn_blocking(work).await.map_err(|died| AuthorityError::Died(died.to_string()))
}

#[cfg(test)]
mod tests;
