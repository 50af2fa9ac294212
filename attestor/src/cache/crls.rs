use std::collections::BTreeMap;

use chancery_sdk::{
    time::UnixTime,
    x509::{CrlError, VerifiedCrl},
};
use rustls_pki_types::CertificateDer;

use crate::ca::ToldCrl;

/// Most bytes of all lists in one message of the Workload API: clients of other makers take 4 MiB, SVIDs and bundles included.
const MAX_SERVED_BYTES: usize = 2 << 20;

/// Most lists that wait for their authority.
const MAX_EARLY: usize = 16;

/// The newest certificate revocation list of each CA of our own domain, each verified before it came in here.
#[derive(Debug, Default)]
pub struct Crls {
    /// By the key identifier of the CA.
    held: BTreeMap<Vec<u8>, (VerifiedCrl, Vec<u8>)>,
    /// Nobody whom we know signed these: a server may tell a new authority's list before the bundle that has it.
    early: Vec<ToldCrl>,
}

impl Crls {
    /// Takes what the CA told, as far as it is what it says: signed by a CA below one of `authorities`, and no older than the one
    /// held. Lets go of those whose CA has ended, or is nobody's any more.
    pub fn take(&mut self, told: Vec<ToldCrl>, authorities: &[CertificateDer<'_>], now: UnixTime) {
        self.held.retain(|_, (crl, _)| crl.issuer_ends > now && authorities.contains(&crl.authority));
        let early = std::mem::take(&mut self.early);
        for ToldCrl { der, chain } in early.into_iter().chain(told) {
            let verified = match VerifiedCrl::verify(&der, &chain, authorities, now) {
                Ok(verified) => verified,
                Err(CrlError::NotSigned) if self.early.len() < MAX_EARLY => {
                    self.early.push(ToldCrl { der, chain });
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a certificate revocation list of the CA is left out");
                    continue;
                }
            };
            let older = |(held, _): &(VerifiedCrl, Vec<u8>)| held.number > verified.number;
            if !self.held.get(&verified.issuer).is_some_and(older) {
                self.held.insert(verified.issuer.clone(), (verified, der));
            }
        }
    }

    /// What goes to processes: the lists as they came, those left out that would make a message too large to be read.
    pub fn served(&self) -> Vec<Vec<u8>> {
        let mut left = MAX_SERVED_BYTES;
        let fits = |der: &&Vec<u8>| match left.checked_sub(der.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => {
                tracing::warn!(bytes = der.len(), "a certificate revocation list is too large for the Workload API");
                false
            }
        };
        self.held.values().map(|(_, der)| der).filter(fits).cloned().collect()
    }
}
