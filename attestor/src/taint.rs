//! Tainted authorities: what they signed is replaced at once, spread over the fleet. And SVIDs that were revoked by themselves,
//! and who is held, which stops every successor.
//!
//! An operator who taints a key wants everything under it gone within seconds, and a CA that lives through it. So each
//! SVID waits for its own share of a short window, chosen by a keyed hash. Written by `sync`, read by `sync` and `instance`.

use std::collections::{BTreeMap, BTreeSet};

use chancery_daemon::clock::Clock;
use chancery_sdk::{id::SpiffeId, time::UnixTime, tls::LiveRevocations};
use tokio::sync::watch;

use crate::{cache::Svid, plan::taint_due};

/// Authorities remembered; a trust domain has a few.
const MAX_KNOWN: usize = 64;

/// The tainted X.509 authorities of our own domain, and since when this run knows of each.
pub struct Taints {
    /// Hex key ID -> first seen. One that leaves the bundle stays: what it signed is refused everywhere then.
    seen: watch::Sender<BTreeMap<String, UnixTime>>,
    revoked: LiveRevocations,
    clock: Clock,
}

impl Taints {
    /// None is known.
    pub fn new(clock: Clock, revoked: LiveRevocations) -> Self {
        Self { seen: watch::Sender::default(), revoked, clock }
    }

    /// Takes note of the authorities that the newest bundle calls tainted.
    pub fn note(&self, tainted: &BTreeSet<String>) {
        let now = (self.clock)();
        self.seen.send_if_modified(|seen| {
            let before = seen.len();
            for id in tainted {
                if seen.len() < MAX_KNOWN && !seen.contains_key(id) {
                    tracing::warn!(authority = id, "authority tainted; what it signed is replaced");
                    seen.insert(id.clone(), now);
                }
            }
            seen.len() > before
        });
    }

    /// Until when the instance is held, if it is: the CA issues nothing new for it.
    pub fn held(&self, id: &SpiffeId) -> Option<UnixTime> {
        self.revoked.list().held(id.as_str(), (self.clock)())
    }

    /// Has whoever follows look again: the list of revocations grew, or somebody is held or released.
    pub fn revoked(&self) {
        self.seen.send_modify(|_| ());
    }

    /// When the successor of an SVID is due: as its life says, sooner where an authority it leads to is tainted, and at once where it
    /// is revoked and its holder is not.
    pub fn due(&self, svid: &Svid) -> UnixTime {
        if self.revoked.list().refuses(svid.id.as_str(), &svid.names) {
            return UnixTime(0);
        }
        let seen = self.seen.borrow();
        let first = svid.authorities.iter().filter_map(|id| seen.get(id)).min();
        first.map_or(svid.rotate_at, |since| svid.rotate_at.min(taint_due(*since, svid.expires_at, svid.spread)))
    }

    /// Follows what is known.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, UnixTime>> {
        self.seen.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use chancery_sdk::id::SpiffeId;
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    };
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::{ca::IssuedX509, plan::Rotation};

    const ID: &str = "spiffe://example.org/web";

    fn params(uri: &str, is_ca: IsCa, usage: KeyUsagePurpose) -> CertificateParams {
        let mut params = CertificateParams::default();
        (params.distinguished_name, params.is_ca) = (DistinguishedName::new(), is_ca);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        (params.key_usages, params.use_authority_key_identifier_extension) = (vec![usage], true);
        params
    }

    fn ca() -> CertificateParams {
        params("spiffe://example.org", IsCa::Ca(BasicConstraints::Unconstrained), KeyUsagePurpose::KeyCertSign)
    }

    /// An SVID under a CA that another one signed; the key IDs of the two.
    fn svid(now: UnixTime) -> (Svid, [String; 2]) {
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let ids = [&keys[1], &keys[0]].map(|key| hex::encode(ca().key_identifier(key)));
        let [root, middle, leaf] = keys;
        let root = Issuer::new(ca(), root);
        let below = ca().signed_by(&middle, &root).unwrap();
        let middle = Issuer::new(ca(), middle);
        let signed =
            params(ID, IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature).signed_by(&leaf, &middle).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![signed.der().clone(), below.der().clone()];
        let issued = IssuedX509 { id: SpiffeId::parse(ID).unwrap(), chain, expires_at: now.plus(3600) };
        (Svid::new(&issued, leaf.serialize_der().into(), &Rotation::new([1; 32]), now).unwrap(), ids)
    }

    /// Only the last certificate's authority counted once: a CA below an upstream could be tainted, and its SVIDs stayed.
    #[test]
    fn whichever_authority_on_the_way_is_tainted_the_svid_is_due_within_a_minute() {
        let now = chancery_daemon::clock::now();
        let (svid, ids) = svid(now);
        let due = |id: &str| {
            let taints = Taints::new(std::sync::Arc::new(move || now), LiveRevocations::new());
            taints.note(&BTreeSet::from([id.to_owned()]));
            taints.due(&svid)
        };
        assert_eq!(due("another"), svid.rotate_at);
        for id in ids {
            assert!((0..=60).contains(&due(&id).since(now)), "{id}");
        }
    }
}
