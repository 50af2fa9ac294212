use std::{collections::BTreeMap, sync::Arc};

use chancery_core::selector::Selectors;
use chancery_proto::workload::X509svidResponse;
use chancery_sdk::time::UnixTime;

use super::{
    Door, Refusal,
    door::{Entitlement, Grant, matched},
    feed::{Feed, Made, Said},
};
use crate::{instance::Phase, peer::Caller};

/// FetchX509SVID.
pub(super) struct X509Svids;

impl Feed for X509Svids {
    type Message = X509svidResponse;

    async fn make(door: &Door, caller: &Arc<Caller>) -> Result<Made<X509svidResponse>, Refusal> {
        let Grant { entitlement, svids } = door.grant(caller).await?;
        let own = entitlement.view.domain.as_ref().and_then(|d| entitlement.view.bundles.x509(d)).unwrap_or_default();
        let message = X509svidResponse {
            svids: svids.iter().map(|(svid, hint)| svid.to_wire(own, hint)).collect(),
            crl: entitlement.view.crls.to_vec(),
            federated_bundles: federated(&entitlement).into_iter().collect(),
        };
        let numbers = svids.iter().map(|(svid, hint)| (svid.number, hint.clone())).collect();
        let crls = Arc::clone(&entitlement.view.crls);
        let said = Said { svids: numbers, bundles: x509_bundles(&entitlement), crls };
        Ok(Made { message, said, selectors: entitlement.selectors })
    }

    fn withheld(door: &Door, caller: &Caller) -> Option<UnixTime> {
        door.instances.held(caller.process.start_token()).map(|(_, until)| until)
    }

    fn glimpse(door: &Door, caller: &Caller, selectors: &Selectors) -> Option<Said> {
        let entitlement = matched(door.cache.view(), selectors.clone()).ok()?;
        let mut svids = Vec::new();
        if entitlement.class.is_some() {
            let phase = door.instances.watch(caller)?;
            let Phase::Good(svid) = &*phase.borrow() else { return None };
            svids.push((svid.number, String::new()));
        }
        for entry in &entitlement.entries {
            svids.push((entitlement.view.svid(&entry.id)?.number, entry.hint.clone()));
        }
        let crls = Arc::clone(&entitlement.view.crls);
        (!entitlement.is_empty()).then(|| Said { svids, bundles: x509_bundles(&entitlement), crls })
    }
}

/// SPIFFE ID of each domain the caller may know -> concatenated DER; our own always in it.
pub(super) fn x509_bundles(entitlement: &Entitlement) -> BTreeMap<String, Vec<u8>> {
    let bundles = &entitlement.view.bundles;
    entitlement.domains().filter_map(|d| Some((d.id().to_string(), bundles.x509(d)?.to_vec()))).collect()
}

fn federated(entitlement: &Entitlement) -> BTreeMap<String, Vec<u8>> {
    let bundles = &entitlement.view.bundles;
    entitlement.federated.iter().filter_map(|d| Some((d.id().to_string(), bundles.x509(d)?.to_vec()))).collect()
}
