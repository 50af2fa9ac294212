use std::{collections::BTreeMap, sync::Arc};

use chancery_core::selector::Selectors;
use chancery_proto::workload::{JwtBundlesResponse, X509BundlesResponse};

use super::{
    Door, Refusal, Verifiers,
    door::{Entitlement, matched},
    feed::{Feed, Made, Said},
    x509::x509_bundles,
};
use crate::peer::Caller;

/// FetchX509Bundles.
pub(super) struct X509Bundles;

/// FetchJWTBundles.
pub(super) struct JwtBundles;

impl Feed for X509Bundles {
    type Message = X509BundlesResponse;

    async fn make(door: &Door, caller: &Arc<Caller>) -> Result<Made<X509BundlesResponse>, Refusal> {
        let entitlement = verifier(door, caller).await?;
        let bundles = x509_bundles(&entitlement);
        let crls = Arc::clone(&entitlement.view.crls);
        let message = X509BundlesResponse { crl: crls.to_vec(), bundles: bundles.clone().into_iter().collect() };
        Ok(Made { message, said: Said { svids: Vec::new(), bundles, crls }, selectors: entitlement.selectors })
    }

    fn glimpse(door: &Door, _: &Caller, selectors: &Selectors) -> Option<Said> {
        let view = door.cache.view();
        glimpse(door, selectors, x509_bundles).map(|said| Said { crls: Arc::clone(&view.crls), ..said })
    }
}

impl Feed for JwtBundles {
    type Message = JwtBundlesResponse;

    async fn make(door: &Door, caller: &Arc<Caller>) -> Result<Made<JwtBundlesResponse>, Refusal> {
        let entitlement = verifier(door, caller).await?;
        let bundles = jwt_bundles(&entitlement);
        let message = JwtBundlesResponse { bundles: bundles.clone().into_iter().collect() };
        let said = Said { bundles, ..Said::default() };
        Ok(Made { message, said, selectors: entitlement.selectors })
    }

    fn glimpse(door: &Door, _: &Caller, selectors: &Selectors) -> Option<Said> {
        glimpse(door, selectors, jwt_bundles)
    }
}

/// What the caller may verify with. Bundles are public, so matching a class is enough: no instance is begun for them.
pub(super) async fn verifier(door: &Door, caller: &Arc<Caller>) -> Result<Entitlement, Refusal> {
    match door.verifiers {
        Verifiers::Entitled => door.entitle(caller).await,
        Verifiers::Anyone => matched(door.cache.view(), door.observe(caller).await?),
    }
}

fn glimpse(door: &Door, selectors: &Selectors, bundles: fn(&Entitlement) -> BTreeMap<String, Vec<u8>>) -> Option<Said> {
    let entitlement = matched(door.cache.view(), selectors.clone()).ok()?;
    let entitled = door.verifiers == Verifiers::Anyone || !entitlement.is_empty();
    entitled.then(|| Said { bundles: bundles(&entitlement), ..Said::default() })
}

/// SPIFFE ID of each domain the caller may know -> JWK Set; our own always in it.
fn jwt_bundles(entitlement: &Entitlement) -> BTreeMap<String, Vec<u8>> {
    let bundles = &entitlement.view.bundles;
    entitlement.domains().filter_map(|d| Some((d.id().to_string(), bundles.jwks(d)?.to_vec()))).collect()
}
