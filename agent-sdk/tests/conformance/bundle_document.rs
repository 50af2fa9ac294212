use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_sdk::{
    bundle::{Bundle, BundleError},
    jwt::JwtBundleSet,
    x509::X509BundleSet,
};
use serde_json::{Value, json};

use crate::support::{
    jwt::{self, Signer},
    td,
    x509::{Issued, check, root, root2},
};

fn bundle_of(roots: &[&Issued], signers: &[&Signer]) -> Bundle {
    let mut bundle = Bundle::new(td());
    for root in roots {
        bundle.x509.insert(root.der.clone()).unwrap();
    }
    for signer in signers {
        bundle.jwt.insert(signer.kid, &signer.spki()).unwrap();
    }
    bundle
}

fn written(bundle: &Bundle) -> Value {
    serde_json::from_slice(&bundle.to_json()).unwrap()
}

/// The one element of a document about `root`.
fn element(root: &Issued) -> Value {
    written(&bundle_of(&[root], &[]))["keys"][0].clone()
}

fn changed(root: &Issued, change: impl FnOnce(&mut Value)) -> Value {
    let mut element = element(root);
    change(&mut element);
    element
}

fn read(document: &Value) -> Bundle {
    Bundle::from_json(td(), document.to_string().as_bytes()).unwrap()
}

/// Reads `[odd, good]` and demands that only the good authority is there.
fn is_passed_over(odd: impl FnOnce(&mut Value)) {
    let (bad, good) = (root(), root());
    let bad = changed(&bad, odd);
    let bundle = read(&json!({ "keys": [bad.clone(), element(&good)] }));
    assert_eq!(bundle.x509.authorities(), [good.der], "{bad}");
    assert!(bundle.jwt.is_empty());
}

fn without(member: &'static str) -> impl FnOnce(&mut Value) {
    move |element| assert!(element.as_object_mut().unwrap().remove(member).is_some())
}

fn with(member: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |element| element[member] = value
}

#[test]
fn xs_39_each_authority_is_an_element_of_its_own() {
    let keys = written(&bundle_of(&[&root(), &root()], &[]))["keys"].clone();
    assert_eq!(keys.as_array().unwrap().len(), 2);
}

#[test]
fn xs_40_x509_elements_say_their_use() {
    assert_eq!(element(&root())["use"], "x509-svid");
}

#[test]
fn xs_41_x509_elements_have_no_kid() {
    assert!(element(&root()).get("kid").is_none());
}

#[test]
fn xs_42_x5c_is_standard_base64_of_the_der() {
    let root = root();
    let text = element(&root)["x5c"][0].as_str().unwrap().to_owned();
    assert_eq!(STANDARD.decode(text).unwrap(), root.der.as_ref());
}

#[test]
fn xs_43_x5c_holds_one_certificate() {
    assert_eq!(element(&root())["x5c"].as_array().unwrap().len(), 1);
}

#[test]
fn xs_45_element_without_certificate_is_passed_over() {
    is_passed_over(without("x5c"));
    is_passed_over(with("x5c", json!([])));
    is_passed_over(with("x5c", json!("AAAA")));
    is_passed_over(with("x5c", json!(["!!"])));
    is_passed_over(with("x5c", json!([STANDARD.encode("no certificate")])));
}

#[test]
fn xs_46_only_the_first_certificate_of_x5c_counts() {
    let (a, b) = (root(), root());
    let both = changed(&a, |element| element["x5c"].as_array_mut().unwrap().push(json!(STANDARD.encode(&b.der))));
    assert_eq!(read(&json!({ "keys": [both] })).x509.authorities(), [a.der]);
}

#[test]
fn xs_47_x509_view_is_the_union_of_x509_elements() {
    let (a, b, signer) = (root(), root(), Signer::es256());
    let mixed = bundle_of(&[&a, &b], &[&signer]);
    let bundle = read(&written(&mixed));
    assert_eq!(bundle.x509.authorities(), [a.der, b.der]);
    assert_eq!(bundle, mixed);
}

#[test]
fn xs_48_document_without_x509_elements_trusts_no_leaf() {
    let bundle = read(&written(&bundle_of(&[], &[&Signer::es256()])));
    assert!(check(&[&root().leaf()], &X509BundleSet::from(bundle.x509)).is_err());
}

#[test]
fn xs_49_element_whose_key_is_not_the_certificates_is_passed_over() {
    let other = element(&root());
    is_passed_over(with("x", other["x"].clone()));
    is_passed_over(without("y"));
    is_passed_over(with("crv", json!("P-384")));
}

#[test]
fn js_34_each_signing_key_is_an_element_of_its_own() {
    let keys = written(&bundle_of(&[], &[&Signer::es256(), &Signer::es256().named("k2")]))["keys"].clone();
    assert_eq!(keys.as_array().unwrap().len(), 2);
}

#[test]
fn js_35_jwt_elements_say_their_use() {
    assert_eq!(written(&bundle_of(&[], &[&Signer::es256()]))["keys"][0]["use"], "jwt-svid");
}

#[test]
fn js_36_jwt_elements_carry_their_own_names() {
    let keys = written(&bundle_of(&[], &[&Signer::es256(), &Signer::es256().named("k2")]))["keys"].clone();
    assert_eq!((&keys[0]["kid"], &keys[1]["kid"]), (&json!("k1"), &json!("k2")));
}

#[test]
fn js_37_only_keys_for_jwt_svids_verify_tokens() {
    let signer = Signer::es256();
    for other in ["wit-svid", "x509-svid"] {
        let mut document = written(&bundle_of(&[], &[&signer]));
        document["keys"][0]["use"] = json!(other);
        let bundle = read(&document);
        assert!(jwt::check(&signer.token(), &JwtBundleSet::from(bundle.jwt)).is_err(), "{other}");
    }
}

#[test]
fn js_38_document_without_jwt_elements_trusts_no_token() {
    let bundle = read(&written(&bundle_of(&[&root()], &[])));
    assert!(jwt::check(&Signer::es256().token(), &JwtBundleSet::from(bundle.jwt)).is_err());
}

#[test]
fn tb_01_document_is_a_jwk_set() {
    let document = written(&bundle_of(&[&root()], &[&Signer::es256(), &Signer::new("RS256").named("k2")]));
    for key in document["keys"].as_array().unwrap() {
        let members: &[&str] = match key["kty"].as_str().unwrap() {
            "EC" => &["crv", "x", "y"],
            "RSA" => &["n", "e"],
            other => panic!("kty {other}"),
        };
        assert!(members.iter().all(|member| key[member].is_string()), "{key}");
    }
}

#[test]
fn tb_02_further_members_are_ignored_and_none_is_needed() {
    let (root, signer) = (root(), Signer::es256());
    let full = bundle_of(&[&root], &[&signer]);
    let mut document = written(&full);
    document["future"] = json!({ "keys": [1] });
    assert_eq!(read(&document), full);
    assert_eq!(read(&json!({ "keys": document["keys"] })), full);
}

#[test]
fn tb_06_sequence_has_64_bits() {
    let mut bundle = bundle_of(&[], &[]);
    bundle.sequence = Some(u64::MAX);
    assert_eq!(read(&written(&bundle)).sequence, Some(u64::MAX));
    assert!(String::from_utf8(bundle.to_json()).unwrap().contains("18446744073709551615"));
}

#[test]
fn tb_04_sequence_is_an_integer() {
    for sequence in ["\"1\"", "1.5", "-1", "18446744073709551616"] {
        let text = format!(r#"{{"keys":[],"spiffe_sequence":{sequence}}}"#);
        assert!(Bundle::from_json(td(), text.as_bytes()).is_err(), "{sequence}");
    }
}

#[test]
fn tb_08_hint_is_an_integer_count_of_seconds() {
    let mut bundle = bundle_of(&[], &[]);
    bundle.refresh_hint = Some(300);
    assert_eq!(written(&bundle)["spiffe_refresh_hint"].to_string(), "300");
    assert_eq!(read(&written(&bundle)).refresh_hint, Some(300));
    assert!(Bundle::from_json(td(), br#"{"keys":[],"spiffe_refresh_hint":"5m"}"#).is_err());
}

#[test]
fn tb_11_empty_bundle_has_an_empty_array_of_keys() {
    assert_eq!(written(&Bundle::new(td())), json!({ "keys": [] }));
}

#[test]
fn tb_12_document_without_keys_is_malformed() {
    for text in ["{}", r#"{"keys":null}"#, r#"{"keys":{}}"#, "[]", "", r#"{"keys":[1]}"#, r#"{"keys":[]}x"#] {
        let fault = Bundle::from_json(td(), text.as_bytes());
        assert!(matches!(fault, Err(BundleError::Malformed { .. })), "{text}");
    }
}

#[test]
fn tb_13_empty_keys_are_legal_and_leave_nothing() {
    let bundle = read(&json!({ "keys": [] }));
    assert!(bundle.x509.is_empty() && bundle.jwt.is_empty());
}

#[test]
fn tb_14_nothing_usable_trusts_nothing() {
    let root = root();
    let bundle = read(&json!({ "keys": [changed(&root, without("x5c"))] }));
    assert!(check(&[&root.leaf()], &X509BundleSet::from(bundle.x509)).is_err());
}

#[test]
fn tb_15_element_of_unknown_kty_is_passed_over() {
    is_passed_over(with("kty", json!("AKP")));
}

#[test]
fn tb_16_element_of_unknown_use_is_passed_over() {
    is_passed_over(with("use", json!("future-svid")));
    is_passed_over(with("use", json!("wit-svid")));
}

#[test]
fn tb_17_element_without_use_is_passed_over() {
    is_passed_over(without("use"));
    let signer = Signer::es256();
    let mut document = written(&bundle_of(&[], &[&signer]));
    without("use")(&mut document["keys"][0]);
    assert!(read(&document).jwt.is_empty(), "not treated as jwt-svid either");
}

#[test]
fn tb_18_use_is_compared_in_case() {
    is_passed_over(with("use", json!("X509-SVID")));
}

#[test]
fn tb_19_element_without_kty_is_passed_over_and_none_is_written() {
    is_passed_over(without("kty"));
    assert!(element(&root())["kty"].is_string());
}

#[test]
fn tb_20_use_is_written_on_every_element() {
    let document = written(&bundle_of(&[&root()], &[&Signer::es256()]));
    assert!(document["keys"].as_array().unwrap().iter().all(|key| key["use"].is_string()));
}

#[test]
fn tb_21_only_members_of_the_standard_are_written() {
    const MEMBERS: [&str; 9] = ["kty", "use", "kid", "x5c", "crv", "x", "y", "n", "e"];
    for key in one_of_each_kind() {
        for member in key.as_object().unwrap().keys() {
            assert!(MEMBERS.contains(&member.as_str()), "{member}");
        }
    }
}

#[test]
fn tb_22_private_members_are_neither_written_nor_taken() {
    for key in one_of_each_kind() {
        assert!(["d", "p", "q", "k"].iter().all(|secret| key.get(secret).is_none()), "{key}");
    }
    is_passed_over(with("d", json!("AAAA")));
}

/// Elements for a certificate, an EC key and an RSA key.
fn one_of_each_kind() -> Vec<Value> {
    let document = written(&bundle_of(&[&root()], &[&Signer::es256(), &Signer::new("RS256").named("k2")]));
    document["keys"].as_array().unwrap().clone()
}

#[test]
fn tb_24_bundle_is_held_with_its_domain() {
    let bundle = read(&json!({ "keys": [] }));
    assert_eq!((bundle.trust_domain(), bundle.x509.trust_domain(), bundle.jwt.trust_domain()), (&td(), &td(), &td()));
}

#[test]
fn cf_04_authority_with_an_invalid_spiffe_id_is_taken() {
    let foreign = root2();
    assert_eq!(read(&json!({ "keys": [element(&foreign)] })).x509.authorities(), [foreign.der]);
}

#[test]
fn cf_09_wit_keys_do_not_disturb() {
    is_passed_over(with("use", json!("wit-svid")));
}

#[test]
fn member_named_twice_is_malformed() {
    for text in [r#"{"keys":[],"keys":[]}"#, r#"{"keys":[{"use":"jwt-svid","use":"x509-svid"}]}"#] {
        assert!(Bundle::from_json(td(), text.as_bytes()).is_err(), "{text}");
    }
}

/// One key in a document, as each kind in turn: what it verifies is its own kind, and the other set stays empty.
#[test]
fn wa_21_wa_49_each_kind_of_bundle_verifies_its_own_kind_of_svid_only() {
    let signer = Signer::es256();
    let jwt = bundle_of(&[], &[&signer]);
    assert!(jwt.x509.is_empty() && jwt::check(&signer.token(), &JwtBundleSet::from(jwt.jwt)).is_ok());
    let mut document = written(&bundle_of(&[&root()], &[&signer]));
    for key in document["keys"].as_array_mut().unwrap() {
        if key["kid"] == signer.kid {
            key["use"] = json!("x509-svid");
        }
    }
    // An X.509 key without its certificate is left out, and verifies no token.
    let read = Bundle::from_json(td(), document.to_string().as_bytes()).unwrap();
    assert_eq!(read.x509.authorities().len(), 1);
    assert!(jwt::check(&signer.token(), &JwtBundleSet::from(read.jwt)).is_err());
}
