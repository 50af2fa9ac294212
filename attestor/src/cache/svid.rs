use std::{
    collections::BTreeSet,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use chancery_proto::workload::X509svid;
use chancery_sdk::{
    id::SpiffeId,
    revocation::Names,
    time::UnixTime,
    x509::{X509Svid, X509SvidError},
};
use zeroize::Zeroizing;

use crate::{
    ca::IssuedX509,
    identity::signers,
    plan::{Rotation, due_at},
};

/// Counts SVIDs, so that two are told apart without looking at keys.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// An X509-SVID with its key, ready to be handed out.
pub struct Svid {
    /// Unlike that of any other SVID of this run.
    pub number: u64,
    /// Whose it is.
    pub id: SpiffeId,
    /// When a successor is due.
    pub rotate_at: UnixTime,
    /// End of the leaf.
    pub expires_at: UnixTime,
    /// Hex key IDs of the authorities it leads to: the one that signed it, and those above that.
    pub authorities: BTreeSet<String>,
    /// As a list of revocations would name it.
    pub names: Names,
    /// Its place among all others, for what must not happen to all at once.
    pub spread: u16,
    /// Concatenated DER, leaf first.
    chain: Vec<u8>,
    /// DER PKCS#8.
    key: Zeroizing<Vec<u8>>,
}

impl Svid {
    /// Joins what the CA issued `now` with the key it was issued for (DER PKCS#8).
    ///
    /// # Errors
    /// [`X509SvidError`] where a SPIFFE client would refuse it, for example because the key is another one.
    pub fn new(
        issued: &IssuedX509,
        key: Zeroizing<Vec<u8>>,
        rotation: &Rotation,
        now: UnixTime,
    ) -> Result<Self, X509SvidError> {
        let chain: Vec<u8> = issued.chain.iter().flat_map(|der| der.iter().copied()).collect();
        let checked = X509Svid::parse(&chain, &key)?;
        let expires_at = checked.not_after();
        let spread = rotation.spread(checked.leaf());
        let rotate_at = due_at(now, expires_at, spread);
        let (authorities, names) = (signers(checked.chain()), Names::of(checked.chain()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, id: checked.id().clone(), rotate_at, expires_at, authorities, names, spread, chain, key })
    }

    /// As the Workload API sends it. `bundle` is concatenated DER.
    pub fn to_wire(&self, bundle: &[u8], hint: &str) -> X509svid {
        X509svid {
            spiffe_id: self.id.to_string(),
            x509_svid: self.chain.clone(),
            x509_svid_key: self.key.to_vec(),
            bundle: bundle.to_vec(),
            hint: hint.to_owned(),
        }
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
