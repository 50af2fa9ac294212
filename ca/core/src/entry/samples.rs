//! Builders of valid values for tests: each test spoils one thing.

use chancery_sdk::id::{SpiffeId, TrustDomain};

use super::*;
use crate::selector::Selectors;

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("td").unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td{text}")).unwrap()
}

pub(crate) fn selectors(list: &[&str]) -> Selectors {
    list.iter().map(|s| s.parse().unwrap()).collect()
}

pub(crate) fn draft() -> Draft {
    Draft {
        id: String::new(),
        spiffe_id: Some(id("/db")),
        parent_id: Some(id("/spire/agent/tpm/aa")),
        selectors: selectors(&["unix:uid:1000"]),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights: Rights::default(),
        expires_at: 0,
        dns_names: Vec::new(),
        hint: String::new(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

pub(crate) fn entry(name: &str, parent: &str, path: &str, list: &[&str]) -> Entry {
    let draft = Draft { spiffe_id: Some(id(path)), parent_id: Some(id(parent)), selectors: selectors(list), ..draft() };
    check(draft, Mask::ALL, &domain()).unwrap().create(name, UnixTime(1)).unwrap()
}
