//! X.509 authorities that a ceremony signs: a request goes out and a certificate comes back, both in people's hands.
//!
//! A request is a key of the journal without an authority; there is one at a time. What comes back is judged as an
//! upstream's answer is, and only for such a key of this server. Source: docs/decisions/0046.

use std::{fmt, path::PathBuf, sync::Arc};

use chancery_sdk::{time::UnixTime, x509};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    AuthorityError, AuthorityManager,
    certify::judged,
    issuer,
    life::Life,
    operate::{PREPARE_STEPS, prepared},
    rotation::{self, OwnKey, Step},
    steps::{done, move_key},
};
use crate::{
    keys::{
        Signer,
        file::{self, FileError},
    },
    moment::rfc3339,
    store::{Authority, AuthorityKind, AuthorityState, Fact, KeyRecord, KeyState, KeyStep, Refusal, Store},
    upstream::{Issued, Request, is_root},
};

/// How often people are told that no authority signs.
const AGAIN_NONE_SECS: i64 = 3600;
/// How often they are told that the last third of one's life has begun.
const AGAIN_LATE_SECS: i64 = 86_400;
/// Why a request's key is condemned.
const GIVEN_UP: &str = "another request was made";

/// That X.509 authorities are signed at a ceremony.
#[derive(Clone, Debug, Default)]
pub struct Offline {
    /// PEM file with the only roots that an imported chain may lead to; absent: the operator who imports says.
    pub roots: Option<PathBuf>,
}

/// What people have to fetch from the ceremony.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Need {
    /// Nothing.
    #[default]
    Nothing,
    /// The authority that follows the active one, half of whose life is over.
    Next {
        /// When the active one ends.
        ends: UnixTime,
        /// Whether the last third of its life has begun.
        late: bool,
    },
    /// Any authority: none signs.
    Now,
}

/// Which request is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// One of a new key; the open one is given up.
    New,
    /// The open one, or the first.
    Open,
}

/// A request that waits for its certificate.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// PKCS#10, DER; signed anew each time, so only the key tells whether two are the same.
    pub csr: Vec<u8>,
    /// Lower-case hex SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_sha256: String,
    /// The key in the journal.
    pub label: String,
}

/// What came back from the ceremony.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The CA certificate, then those up to a root; the root may be the last.
    pub chain: Vec<CertificateDer<'static>>,
    /// Roots to publish; empty: the last of `chain`.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why no request was made, or no certificate taken.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// The server does not sign for itself, and nobody online does.
    #[error(
        "X.509 authorities are signed offline here: carry `chancery-ca authority csr` to the ceremony, then `authority import` what comes back"
    )]
    ByHand,
    /// Another server's key.
    #[error("the certificate is for a request of server {0}: import it there")]
    Elsewhere(String),
    /// The file of pinned roots.
    #[error("upstream.bundle: {0}")]
    File(#[from] FileError),
    /// Not the open request any more.
    #[error(
        "the certificate is for key {label}, which is {state}: its request was given up; have the one of `authority csr` signed"
    )]
    GivenUp {
        /// The key.
        label: String,
        /// Its state in the journal.
        state: KeyState,
    },
    /// Twice.
    #[error("the certificate's key is that of authority {0} already")]
    Imported(String),
    /// What it says is not usable.
    #[error("the certificate is refused: {0}")]
    Judged(String),
    /// No anchor was given.
    #[error("the chain does not end with a root: append it, or name the roots to publish with --bundle")]
    NoRoot,
    /// The configuration says otherwise.
    #[error("X.509 authorities are not signed offline here: this needs `upstream.kind = \"offline\"`")]
    NotOffline,
    /// Not one of the pinned roots.
    #[error("the chain leads to a root that is not in `upstream.bundle`: only those are taken")]
    OtherRoot,
    /// Its end is too near.
    #[error("the certificate ends in {left} s: it must live longer than the longest SVID, {least} s")]
    Short {
        /// Seconds.
        left: i64,
        /// Seconds.
        least: i64,
    },
    /// A key nobody here made.
    #[error("the certificate is for key {0}, of which no request was made here")]
    Stranger(String),
    /// The key store has it not, now.
    #[error("key {0} is not in its key store now; import the certificate when it is")]
    Unusable(String),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DO: &str = "carry `chancery-ca authority csr` to the ceremony, then `authority import` what comes back";
        match *self {
            Self::Nothing => f.write_str("nothing"),
            Self::Next { ends, .. } => {
                write!(f, "the X.509 authority ends at {} and none follows it: {DO}", rfc3339(ends))
            }
            Self::Now => write!(f, "no X.509 authority signs: {DO}"),
        }
    }
}

impl Need {
    /// What people have to fetch, as this server's keys are.
    pub(super) fn of(own: &[OwnKey], now: UnixTime) -> Self {
        let prepared = rotation::newest(own, AuthorityState::Prepared, now);
        let Some(active) = rotation::newest(own, AuthorityState::Active, now) else {
            return if prepared.is_some() { Self::Nothing } else { Self::Now };
        };
        let (life, age) = (active.not_after.since(active.not_before), now.since(active.not_before));
        let follows = prepared.is_some_and(|next| next.not_after > active.not_after);
        match age >= life / 2 && !follows {
            true => Self::Next { ends: active.not_after, late: age >= life - life / 3 },
            false => Self::Nothing,
        }
    }

    /// Seconds until people are told again; `None`: once is enough.
    fn again(self) -> Option<i64> {
        match self {
            Self::Nothing | Self::Next { late: false, .. } => None,
            Self::Next { late: true, .. } => Some(AGAIN_LATE_SECS),
            Self::Now => Some(AGAIN_NONE_SECS),
        }
    }
}

impl AuthorityManager {
    /// What people have to fetch from the ceremony, and its changes; never anything where nothing is signed offline.
    pub fn need(&self) -> watch::Receiver<Need> {
        self.need.subscribe()
    }

    /// Whether X.509 authorities are signed at a ceremony.
    pub fn is_offline(&self) -> bool {
        self.settings.offline.is_some()
    }

    /// Notes what people have to fetch, and tells them at each change and then as often as it deserves.
    pub(super) fn remind(&self, life: &mut Life, own: &[OwnKey], now: UnixTime) {
        let need = Need::of(own, now);
        let told = life.reminded.filter(|(before, _)| *before == need).map(|(_, at)| at);
        let due = told.is_none_or(|at| need.again().is_some_and(|secs| now.since(at) >= secs));
        if due {
            life.reminded = Some((need, now));
            match need {
                Need::Nothing => {}
                Need::Next { .. } => tracing::warn!("{need}"),
                Need::Now => tracing::error!("waiting: {need}"),
            }
        }
        self.need.send_if_modified(|known| std::mem::replace(known, need) != need);
    }

    /// The request that waits for a certificate; its key is made, journal first, where there is none.
    ///
    /// # Errors
    /// [`OfflineError::NotOffline`]; [`AuthorityError`].
    pub async fn request(&self, store: &Store, which: Which, now: UnixTime) -> Result<Waiting, AuthorityError> {
        const KIND: AuthorityKind = AuthorityKind::X509;
        if self.settings.offline.is_none() {
            return Err(OfflineError::NotOffline.into());
        }
        let mut life = self.life.lock().await;
        if which == Which::New {
            self.give_up(store, &mut life, now).await?;
        }
        for _ in 0..PREPARE_STEPS {
            let own = self.own(store, &life, KIND).await?;
            match rotation::successor(&own) {
                Step::Prepare(label) => {
                    let key = life.here.get(&label).cloned().ok_or_else(|| OfflineError::Unusable(label.clone()))?;
                    return self.waiting(label, key).await;
                }
                step => self.take(store, &mut life, KIND, &own, step, now).await?,
            }
        }
        Err(AuthorityError::Refused { step: "authority csr".into(), refusal: Refusal::KeyNotGenerated })
    }

    async fn waiting(&self, label: String, key: Arc<dyn Signer>) -> Result<Waiting, AuthorityError> {
        let (domain, key_sha256) = (self.settings.trust_domain.clone(), fingerprint(key.spki()));
        let csr = super::on_thread(move || issuer::request(&domain, &key)).await??;
        Ok(Waiting { csr, key_sha256, label })
    }

    /// Condemns the keys of open requests: no certificate for them is taken any more.
    async fn give_up(&self, store: &Store, life: &mut Life, now: UnixTime) -> Result<(), AuthorityError> {
        let keep_until = now.plus(self.settings.destroy_after_secs);
        for mut own in self.own(store, life, AuthorityKind::X509).await? {
            if own.authority.is_none() && matches!(own.key.state, KeyState::Generated | KeyState::Lost) {
                move_key(store, &mut own.key, KeyStep::Condemn { keep_until, why: GIVEN_UP }).await?;
                life.inspect_at = now;
            }
        }
        Ok(())
    }

    /// Takes the certificate of the open request: a prepared authority, published; active at once where none signs.
    /// One that was prepared before is given up.
    ///
    /// # Errors
    /// [`OfflineError`]; [`AuthorityError`]. Nothing was published then.
    pub async fn import(
        &self,
        store: &Store,
        delivered: Delivered,
        now: UnixTime,
    ) -> Result<Authority, AuthorityError> {
        const KIND: AuthorityKind = AuthorityKind::X509;
        let offline = self.settings.offline.as_ref().ok_or(OfflineError::NotOffline)?;
        let issued = offline.issued(delivered)?;
        let mut life = self.life.lock().await;
        let (row, key) = self.asked(store, &life, &issued.certificate).await?;
        let authority = self.judge(&row, key, issued, now).await?;
        let before: Vec<_> =
            prepared(&self.own(store, &life, KIND).await?).map(|a| Step::Remove(a.id.clone())).collect();
        for step in before {
            let own = self.own(store, &life, KIND).await?;
            self.take(store, &mut life, KIND, &own, step, now).await?;
        }
        while let own = self.own(store, &life, KIND).await?
            && rotation::newest(&own, AuthorityState::Active, now).is_none()
            && let Some(step) = rotation::make_room(&own)
        {
            self.take(store, &mut life, KIND, &own, step, now).await?;
        }
        let id = authority.id.clone();
        done(store, Fact::PrepareAuthority(authority.clone()), &format!("import {id}")).await?;
        super::crash::point("prepared");
        // It is published; what fails now is tried again every second.
        if let Err(problem) = self.rotate_kind(store, &mut life, KIND, now).await {
            tracing::error!(%problem, authority = id, "imported authority does not sign yet");
        }
        drop(life);
        self.refresh(store).await?;
        Ok(store.authority(&id).await?.unwrap_or(authority))
    }

    /// The key that a delivered certificate is for: of this server, asked for, and without a certificate.
    async fn asked(
        &self,
        store: &Store,
        life: &Life,
        certificate: &CertificateDer<'_>,
    ) -> Result<(KeyRecord, Arc<dyn Signer>), AuthorityError> {
        let spki = x509::spki_of(certificate).map_err(|e| OfflineError::Judged(e.to_string()))?;
        let rows = store.keys().await?;
        let row = rows.into_iter().find(|row| row.spki.as_deref() == Some(&spki) && row.kind == AuthorityKind::X509);
        let row = row.ok_or_else(|| OfflineError::Stranger(fingerprint(&spki)))?;
        if row.server != self.settings.server {
            return Err(OfflineError::Elsewhere(row.server).into());
        }
        if let Some(known) = store.every_authority().await?.into_iter().find(|a| a.label == row.label) {
            return Err(OfflineError::Imported(known.id).into());
        }
        let (label, state) = (row.label.clone(), row.state);
        match (state, life.here.get(&row.label)) {
            (KeyState::Generated, Some(key)) => Ok((row, Arc::clone(key))),
            (KeyState::Generated | KeyState::Lost, _) => Err(OfflineError::Unusable(label).into()),
            (KeyState::Condemned | KeyState::Destroyed | KeyState::Generating | KeyState::Planned, _) => {
                Err(OfflineError::GivenUp { label, state }.into())
            }
        }
    }

    async fn judge(
        &self,
        row: &KeyRecord,
        key: Arc<dyn Signer>,
        issued: Issued,
        now: UnixTime,
    ) -> Result<Authority, AuthorityError> {
        let (domain, delegated) = (self.settings.trust_domain.clone(), self.settings.delegated_issuer_secs);
        let signer = Arc::clone(&key);
        let made = super::on_thread(move || {
            let request = Request { domain: &domain, spki: signer.spki(), csr: &[], now, life_secs: 0 };
            judged(issued, &request, &signer, delegated)
        });
        let made = made.await?.map_err(|why| OfflineError::Judged(why.to_string()))?;
        let (left, least) = (made.not_after.since(now), self.settings.longest_ttl_secs);
        if left <= least {
            return Err(OfflineError::Short { left, least }.into());
        }
        self.authority_of(row, key.as_ref(), made, now)
    }
}

impl Offline {
    /// What was delivered in the form of an upstream's answer: the roots apart from what goes along with a leaf.
    fn issued(&self, delivered: Delivered) -> Result<Issued, OfflineError> {
        let Delivered { mut chain, roots } = delivered;
        let anchors = match roots.is_empty() {
            true => chain.last().filter(|last| is_root(last)).cloned().into_iter().collect(),
            false => roots,
        };
        let pinned = self.roots.as_deref().map(file::certificates).transpose()?;
        let anchors = match pinned {
            None => anchors,
            // Whatever was given must be pinned; what goes into the bundle is what is pinned.
            Some(pinned) if anchors.iter().all(|root| pinned.contains(root)) => pinned,
            Some(_) => return Err(OfflineError::OtherRoot),
        };
        chain.retain(|der| !anchors.contains(der));
        if anchors.is_empty() || chain.is_empty() {
            return Err(OfflineError::NoRoot);
        }
        let certificate = chain.remove(0);
        Ok(Issued { certificate, chain, anchors })
    }
}

/// Lower-case hex SHA-256.
fn fingerprint(spki: &[u8]) -> String {
    hex::encode(digest(&SHA256, spki))
}

#[cfg(test)]
mod tests;
