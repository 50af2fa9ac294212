//! Certificate revocation lists for those who take no list of ours: signed when something is revoked and before they end.
//!
//! Each server signs those of its own CAs and puts them into the database, where every server takes all of them from: to its
//! nodes, into a file, to whoever asks over HTTP. While a CA's server is gone nobody signs its list. Called by `run`.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_daemon::http::{self, Answer};
use chancery_sdk::time::UnixTime;
use hyper::body::Bytes;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    authority::{AuthorityError, List, ListIssuer, MOST},
    keys::file,
    state::State,
    store::{Fact, StoreError, StoredCrl, Taken},
};

/// From a revocation to the signature: what is revoked together goes into one list.
const SETTLE: Duration = Duration::from_millis(500);
/// Least time between two lists of one CA, whatever is revoked: each goes to every node whole.
const QUIET: Duration = Duration::from_secs(5);
/// How far thisUpdate lies back, for clocks that are behind; as notBefore of what is issued.
const BACKDATE_SECS: i64 = 10;
/// A new epoch's numbers are above every one that an older state of the database gave.
const EPOCH_BITS: u32 = 32;
/// DER of one list. Source: RFC 5280, 4.2.1.13; RFC 2585, 4.
const PKIX_CRL: &str = "application/pkix-crl";

/// Why a list is not signed.
#[derive(Debug, Error)]
pub(crate) enum CrlFault {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("{0}")]
    Refused(crate::store::Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The lists that this run has signed, by their CA.
#[derive(Default)]
pub(crate) struct Lists(HashMap<String, Signed>);

/// What the newest list of a CA says, and when the next one is due.
struct Signed {
    taken: Vec<Taken>,
    again: Option<UnixTime>,
}

/// Starts the tasks, and the HTTP door where one is configured.
///
/// # Errors
/// The address of the door.
pub async fn start(state: &Arc<State>) -> io::Result<()> {
    tokio::spawn(sign_on(Arc::clone(state)));
    tokio::spawn(write_on(Arc::clone(state)));
    let Some(addr) = state.config.crl.listen else { return Ok(()) };
    let (asked, written) = (Arc::clone(state), Written::default());
    let answers = Arc::new(move |path: &str| answer(&asked, &written, path));
    http::serve(addr, http::CONNECTIONS, answers, state.shutdown.hard.clone()).await.map(drop)
}

/// Signs at once whatever has no list yet, then what changes and what is due.
async fn sign_on(state: Arc<State>) {
    let mut revoked = state.view.revoked();
    let (mut lists, mut dirty, mut seen) = (Lists::default(), true, 0);
    loop {
        let began = Instant::now();
        let acts = *revoked.borrow_and_update();
        dirty |= acts != std::mem::replace(&mut seen, acts);
        let quiet = match lists.pass(&state, dirty).await {
            Ok(()) => began + if std::mem::take(&mut dirty) { QUIET } else { Duration::ZERO },
            Err(problem) => {
                tracing::error!(%problem, "a certificate revocation list was not signed");
                began + QUIET
            }
        };
        tokio::select! {
            () = state.shutdown.soft.cancelled() => return,
            // CAs come and go, and lists end.
            () = sleep(QUIET) => {}
            () = rest(&mut revoked, quiet) => {}
        }
    }
}

/// Until something is revoked and what comes with it is there, but not before `quiet`.
async fn rest(revoked: &mut watch::Receiver<u64>, quiet: Instant) {
    if revoked.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep_until(quiet.max(Instant::now() + SETTLE)).await;
}

impl Lists {
    /// Signs what is due; where something was revoked, whatever says something new.
    ///
    /// # Errors
    /// The last [`CrlFault`]; another CA's list is signed all the same.
    pub(crate) async fn pass(&mut self, state: &State, revoked: bool) -> Result<(), CrlFault> {
        let now = state.now();
        let issuers = state.authority.list_issuers(now).await;
        self.0.retain(|known, _| issuers.iter().any(|issuer| issuer.issuer == *known));
        let mut told = Ok(());
        for issuer in &issuers {
            if let Err(problem) = self.list(state, issuer, revoked, now).await {
                told = Err(problem);
            }
        }
        told
    }

    async fn list(
        &mut self,
        state: &State,
        issuer: &Arc<ListIssuer>,
        revoked: bool,
        now: UnixTime,
    ) -> Result<(), CrlFault> {
        let known = self.0.get(&issuer.issuer);
        let due = known.is_none_or(|known| known.again.is_some_and(|at| at <= now));
        if !due && !revoked {
            return Ok(());
        }
        // A certificate is named in one regular list after its end (RFC 5280, 3.3).
        let since = now.plus(-state.config.crl.lifetime.as_secs());
        let most = u32::try_from(MOST).unwrap_or(u32::MAX).saturating_add(1);
        let taken = state.store.taken_back(&issuer.authority, since, most).await?;
        if due || known.is_none_or(|known| known.taken != taken) {
            let signed = sign(state, issuer, taken, now).await?;
            self.0.insert(issuer.issuer.clone(), signed);
        }
        Ok(())
    }
}

async fn sign(state: &State, issuer: &Arc<ListIssuer>, taken: Vec<Taken>, now: UnixTime) -> Result<Signed, CrlFault> {
    let stored = state.store.crl(&issuer.issuer).await?.map_or(0, |crl| crl.number);
    let number = stored.max(state.store.bundle_revision().await?.epoch << EPOCH_BITS) + 1;
    let (this_update, wanted) = (now.plus(-BACKDATE_SECS), now.plus(state.config.crl.lifetime.as_secs()));
    let next_update = wanted.min(issuer.ends);
    let list = List { number: number.unsigned_abs(), this_update, next_update, taken: taken.clone() };
    let der = state.authority.sign_list(issuer, list).await?;
    let crl = StoredCrl {
        issuer: issuer.issuer.clone(),
        authority: issuer.authority.clone(),
        number,
        this_update,
        next_update,
        issuer_ends: issuer.ends,
        revoked: i64::try_from(taken.len()).unwrap_or(i64::MAX),
        chain: issuer.chain.iter().flat_map(|der| der.to_vec()).collect(),
        der,
    };
    state.commit(Fact::SignCrl(crl)).await?.done().map_err(CrlFault::Refused)?;
    // A list that holds as long as its CA needs no successor but for what comes to it.
    let again = (next_update == wanted).then(|| now.plus(next_update.since(now) / 2));
    Ok(Signed { taken, again })
}

/// Keeps the file and the gauge current, whichever server signed.
async fn write_on(state: Arc<State>) {
    let mut listed = state.view.listed();
    listed.mark_changed();
    loop {
        let woken = tokio::select! {
            () = state.shutdown.soft.cancelled() => return,
            woken = listed.changed() => woken.is_ok(),
        };
        if !woken {
            return;
        }
        let crls = state.view.crls(state.now());
        let ends = crls.iter().map(|crl| crl.next_update.0).min().unwrap_or(0);
        state.metrics.crl_ends.set(ends);
        if let Some(path) = &state.config.crl.file
            && let Err(problem) = write(path, pem(&crls)).await
        {
            tracing::error!(%problem, path = %path.display(), "crl.file is not written; the old one stays");
        }
    }
}

async fn write(path: &Path, text: String) -> io::Result<()> {
    let path = path.to_owned();
    let written = move || chancery_daemon::file::write_atomic(&path, text.as_bytes(), 0o644);
    tokio::task::spawn_blocking(written).await.unwrap_or_else(|died| Err(io::Error::other(died)))
}

/// The lists in PEM, written once for all who ask. Guarded while it is written: the others wait for it.
#[derive(Default)]
pub(crate) struct Written(Mutex<(Vec<Arc<StoredCrl>>, Bytes)>);

impl Written {
    fn of(&self, crls: Vec<Arc<StoredCrl>>) -> Bytes {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = written.0.len() == crls.len() && written.0.iter().zip(&crls).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            let text = Bytes::from(pem(&crls));
            *written = (crls, text);
        }
        written.1.clone()
    }
}

/// `/crl.pem`: all of them; `/crl/<issuer>.crl`: one, DER.
pub(crate) fn answer(state: &State, written: &Written, path: &str) -> Option<Answer> {
    let crls = state.view.crls(state.now());
    if path == "/crl.pem" {
        return Some(Answer::ok("application/x-pem-file", written.of(crls)));
    }
    let issuer = path.strip_prefix("/crl/")?.strip_suffix(".crl")?;
    let crl = crls.iter().find(|crl| crl.issuer == issuer)?;
    Some(Answer::ok(PKIX_CRL, crl.der.clone()))
}

fn pem(crls: &[Arc<StoredCrl>]) -> String {
    crls.iter().map(|crl| file::pem("X509 CRL", &crl.der)).collect()
}
