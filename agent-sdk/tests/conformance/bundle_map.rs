use chancery_sdk::{
    bundle::{Bundle, BundleMap, BundleMapError},
    id::IdError,
};
use serde_json::{Value, json};

use crate::support::{
    jwt::Signer,
    td, td2,
    x509::{root, root2},
};

fn samples() -> [Bundle; 2] {
    let mut one = Bundle::new(td());
    one.x509.insert(root().der).unwrap();
    one.jwt.insert("k1", &Signer::es256().spki()).unwrap();
    one.sequence = Some(7);
    let mut two = Bundle::new(td2());
    two.x509.insert(root2().der).unwrap();
    [one, two]
}

fn map_of(bundles: impl IntoIterator<Item = Bundle>) -> BundleMap {
    let mut map = BundleMap::new();
    for bundle in bundles {
        map.insert(bundle).unwrap();
    }
    map
}

fn read(text: &str) -> Result<BundleMap, BundleMapError> {
    BundleMap::from_json(text.as_bytes())
}

#[test]
fn tb_27_map_has_an_object_of_trust_domains() {
    for text in ["{}", r#"{"trust_domains":null}"#, r#"{"trust_domains":[]}"#, ""] {
        assert!(matches!(read(text), Err(BundleMapError::Malformed(_))), "{text}");
    }
    assert_eq!(read(r#"{"trust_domains":{}}"#), Ok(BundleMap::new()));
    assert_eq!(BundleMap::new().to_json(), br#"{"trust_domains":{}}"#);
}

#[test]
fn tb_28_members_are_trust_domain_names() {
    let bad = |name: &str, source: IdError| {
        let text = json!({ "trust_domains": { name: { "keys": [] } } }).to_string();
        assert_eq!(read(&text), Err(BundleMapError::BadName { name: name.into(), source }));
    };
    bad("spiffe://example.org", IdError::BadTrustDomainChar);
    bad("Example.org", IdError::BadTrustDomainChar);
    bad("", IdError::MissingTrustDomain);
}

#[test]
fn tb_29_second_bundle_of_a_domain_is_refused() {
    let mut map = map_of([Bundle::new(td())]);
    assert_eq!(map.insert(Bundle::new(td())), Err(BundleMapError::Duplicate(td())));
}

#[test]
fn tb_30_document_that_names_a_domain_twice_is_refused() {
    let text = r#"{"trust_domains":{"a":{"keys":[]},"a":{"keys":[]}}}"#;
    assert!(matches!(read(text), Err(BundleMapError::Malformed(detail)) if detail.contains("'a'")));
    let text = r#"{"trust_domains":{},"trust_domains":{}}"#;
    assert!(read(text).is_err());
}

#[test]
fn tb_31_members_are_written_without_refresh_hint() {
    let [one, _] = samples();
    let map = map_of([Bundle { refresh_hint: Some(300), ..one }]);
    let document: Value = serde_json::from_slice(&map.to_json()).unwrap();
    let member = document["trust_domains"]["example.org"].as_object().unwrap();
    assert_eq!(member.keys().collect::<Vec<_>>(), ["keys", "spiffe_sequence"]);
}

#[test]
fn tb_32_refresh_hints_of_members_are_dropped() {
    let map = read(r#"{"trust_domains":{"a":{"keys":[],"spiffe_refresh_hint":1,"refresh_hint":1}}}"#).unwrap();
    assert_eq!(map.iter().next().unwrap().refresh_hint, None);
}

#[test]
fn tb_33_one_malformed_member_refuses_the_whole_map() {
    assert!(read(r#"{"trust_domains":{"a":{"keys":[]},"b":{}}}"#).is_err());
}

#[test]
fn tb_34_sequences_of_members_are_kept() {
    let map = read(r#"{"trust_domains":{"example.org":{"keys":[],"spiffe_sequence":9}}}"#).unwrap();
    assert_eq!(map.get(&td()).unwrap().sequence, Some(9));
}

#[test]
fn cf_12_neither_name_of_the_hint_is_written_or_read() {
    let map = map_of([Bundle { refresh_hint: Some(1), ..Bundle::new(td()) }]);
    assert_eq!(map.to_json(), br#"{"trust_domains":{"example.org":{"keys":[]}}}"#);
}

#[test]
fn map_reads_what_it_wrote() {
    let map = map_of(samples());
    assert_eq!(BundleMap::from_json(&map.to_json()), Ok(map));
}
