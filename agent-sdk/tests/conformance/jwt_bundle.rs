use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_sdk::jwt::{JwtBundle, JwtBundleError, JwtBundleSet};
use serde_json::{Value, json};

use crate::support::{
    jwt::{ALL, Signer, check},
    td,
};

/// The one JWK of a signer, without `use`.
fn jwk(signer: &Signer) -> Value {
    let jwks: Value = serde_json::from_slice(&signer.bundle(td()).to_jwks()).unwrap();
    jwks["keys"][0].clone()
}

fn read(keys: Value) -> JwtBundle {
    JwtBundle::from_jwks(td(), json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn changed(signer: &Signer, change: impl FnOnce(&mut Value)) -> Value {
    let mut jwk = jwk(signer);
    change(&mut jwk);
    jwk
}

#[test]
fn wa_44_keys_of_the_workload_api_need_no_use() {
    let signer = Signer::es256();
    assert!(jwk(&signer).get("use").is_none());
    assert_eq!(read(json!([jwk(&signer)])), signer.bundle(td()));
}

#[test]
fn js_37_key_for_another_use_verifies_no_token() {
    let signer = Signer::es256();
    for other in ["wit-svid", "x509-svid", "JWT-SVID", "sig"] {
        let bundle = read(json!([changed(&signer, |jwk| jwk["use"] = json!(other))]));
        assert!(bundle.is_empty(), "{other}");
        assert!(check(&signer.token(), &JwtBundleSet::from(bundle)).is_err());
    }
}

#[test]
fn js_36_key_without_a_name_is_passed_over() {
    let (nameless, good) = (Signer::es256(), Signer::es256());
    let without = changed(&nameless, |jwk| drop(jwk.as_object_mut().unwrap().remove("kid")));
    let empty = changed(&nameless, |jwk| jwk["kid"] = json!(""));
    assert_eq!(read(json!([without, empty, jwk(&good)])), good.bundle(td()));
}

#[test]
fn js_36_second_key_of_a_name_is_passed_over_when_read_and_refused_when_made() {
    let (first, second) = (Signer::es256(), Signer::es256());
    let mut bundle = read(json!([jwk(&first), jwk(&second)]));
    assert_eq!(bundle, first.bundle(td()));
    let taken = JwtBundleError::DuplicateKid { trust_domain: td(), kid: "k1".into() };
    assert_eq!(bundle.insert("k1", &second.spki()), Err(taken));
}

#[test]
fn tb_22_key_with_private_members_is_passed_over() {
    let signer = Signer::es256();
    assert!(read(json!([changed(&signer, |jwk| jwk["d"] = json!("AAAA"))])).is_empty());
}

#[test]
fn odd_key_members_do_not_sink_the_set() {
    let (odd, good) = (Signer::es256().named("odd"), Signer::es256());
    let longer = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let faults: [(&str, Value); 6] = [
        ("x", longer),
        ("y", json!("!!")),
        ("crv", json!("P-999")),
        ("kty", json!("AKP")),
        ("x", json!(7)),
        ("kid", json!(7)),
    ];
    for (member, value) in faults {
        let bad = changed(&odd, |jwk| jwk[member] = value);
        assert_eq!(read(json!([bad, jwk(&good)])), good.bundle(td()), "{bad}");
    }
}

/// RFC 7518, 6.2.1.2: a coordinate has the length of the field, also when the two together have the right one.
#[test]
fn coordinates_of_uneven_length_are_passed_over() {
    let signer = Signer::es256();
    let bytes = |jwk: &Value, member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
    let uneven = changed(&signer, |jwk| {
        let (mut x, y) = (bytes(jwk, "x"), bytes(jwk, "y"));
        x.push(y[0]);
        jwk["x"] = json!(URL_SAFE_NO_PAD.encode(x));
        jwk["y"] = json!(URL_SAFE_NO_PAD.encode(&y[1..]));
    });
    assert!(read(json!([uneven])).is_empty());
}

#[test]
fn keys_of_every_kind_survive_the_round_trip() {
    for alg in ALL {
        let signer = Signer::new(alg);
        let bundle = JwtBundle::from_jwks(td(), &signer.bundle(td()).to_jwks()).unwrap();
        assert_eq!(bundle.keys()[0].spki(), signer.spki(), "{alg}");
        assert_eq!(bundle.key("k1").unwrap().kid(), "k1");
    }
}

#[test]
fn tb_12_set_without_keys_is_malformed() {
    for text in ["{}", r#"{"keys":null}"#, "[]", "", r#"{"keys":{}}"#] {
        assert!(matches!(JwtBundle::from_jwks(td(), text.as_bytes()), Err(JwtBundleError::Malformed { .. })), "{text}");
    }
    assert!(read(json!([])).is_empty());
}

#[test]
fn key_that_no_algorithm_takes_is_refused() {
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&ed25519);
    let refused = JwtBundle::new(td()).insert("k", &spki);
    assert_eq!(refused, Err(JwtBundleError::BadKey { trust_domain: td(), kid: "k".into() }));
    assert!(JwtBundle::new(td()).insert("", &Signer::es256().spki()).is_err());
    assert!(JwtBundle::new(td()).insert("k", b"no key").is_err());
}
