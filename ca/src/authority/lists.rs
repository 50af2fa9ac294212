//! Certificate revocation lists of this server's own CAs: its X.509 authorities, and the issuers they delegate to.
//!
//! Whoever has the key signs: a list of another server's authority is never made here. What is on it is for `crls` to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use chancery_sdk::time::UnixTime;
use rustls_pki_types::CertificateDer;

use super::{
    AuthorityError, AuthorityManager, SignError, X509Issuer,
    subordinate::{
        Parent,
        crl::{self, Crl, MAX_ENTRIES_ONLINE, Reason, Revoked},
    },
};
use crate::store::{AuthorityKind, Taken};

/// Most that one list names; who has more revoked taints the authority.
pub const MOST: usize = MAX_ENTRIES_ONLINE;

/// A CA whose lists this server signs.
#[derive(Debug)]
pub struct ListIssuer {
    /// Lower-case hex of its key identifier.
    pub issuer: String,
    /// What its certificates are listed under.
    pub authority: String,
    /// Its end.
    pub ends: UnixTime,
    /// From it up to below the bundle; empty where it is there itself.
    pub chain: Vec<CertificateDer<'static>>,
    parent: Parent,
}

/// A list to be signed.
#[derive(Clone, Debug)]
pub struct List {
    /// Greater than that of every list before.
    pub number: u64,
    /// From when it holds.
    pub this_update: UnixTime,
    /// When the next follows at the latest.
    pub next_update: UnixTime,
    /// What it names, each serial once.
    pub taken: Vec<Taken>,
}

impl ListIssuer {
    fn of(issuer: &X509Issuer) -> Result<Self, SignError> {
        let (issuer_id, parent) = (issuer.key_id()?, issuer.of_lists()?);
        let (authority, chain) = (issuer.id.clone(), issuer.chain.clone());
        Ok(Self { issuer: issuer_id, authority, ends: issuer.not_after, chain, parent })
    }
}

impl AuthorityManager {
    /// The CAs of this server that have not ended, whose keys are here, and that may sign lists.
    pub async fn list_issuers(&self, now: UnixTime) -> Vec<Arc<ListIssuer>> {
        let published = Arc::clone(&self.published.borrow());
        let own = |a: &&crate::store::Authority| {
            a.kind == AuthorityKind::X509 && a.server == self.settings.server && now < a.not_after
        };
        let life = self.life.lock().await;
        let authorities: Vec<_> = published.authorities.iter().filter(own).collect();
        let issuers = authorities.iter().filter_map(|a| Some(X509Issuer::new(a, Arc::clone(life.here.get(&a.label)?))));
        let mut lists: Vec<_> = issuers.map(|issuer| issuer.and_then(|issuer| ListIssuer::of(&issuer))).collect();
        drop(life);
        let mut delegates = self.delegates.lock().unwrap_or_else(PoisonError::into_inner);
        delegates.retain(|delegate| now < delegate.not_after);
        lists.extend(delegates.iter().map(|delegate| ListIssuer::of(delegate)));
        drop(delegates);
        let told = |problem: &SignError| tracing::debug!(%problem, "a CA signs no lists");
        lists.into_iter().filter_map(|list| list.inspect_err(told).ok().map(Arc::new)).collect()
    }

    /// Signs a list, on a thread that may block.
    ///
    /// # Errors
    /// [`AuthorityError`]; among them more than [`MOST`] certificates.
    pub async fn sign_list(&self, issuer: &Arc<ListIssuer>, list: List) -> Result<Vec<u8>, AuthorityError> {
        let mut revoked = BTreeMap::new();
        for taken in &list.taken {
            let serial =
                crl::serial(&taken.serial).ok_or(SignError::Mismatch("serial number of a revoked certificate"))?;
            revoked.insert(serial, Revoked { at: taken.at, reason: Reason::Unspecified });
        }
        let List { number, this_update, next_update, .. } = list;
        let (issuer, crl) = (Arc::clone(issuer), Crl { number, this_update, next_update, revoked });
        Ok(super::on_thread(move || issuer.parent.sign_crl(&crl, MOST)).await??)
    }
}
