use chancery_sdk::{
    id::IdError,
    jwt::{
        JwtError::{self, *},
        peek_unverified,
    },
};
use serde_json::{Value, json};

use crate::support::{
    NOW, W,
    jwt::{AUDIENCE, Signer, check, claims, part},
    w,
};

/// Signs claims with one fault by a trusted key.
fn claims_fault(fault: impl FnOnce(&mut Value)) -> JwtError {
    let signer = Signer::es256();
    check(&signer.token_with(fault), &signer.trusted()).unwrap_err()
}

fn header_fault(fault: impl FnOnce(&mut Value)) -> JwtError {
    let signer = Signer::es256();
    check(&signer.token_with_header(fault), &signer.trusted()).unwrap_err()
}

fn claims_accepted(change: impl FnOnce(&mut Value)) {
    let signer = Signer::es256();
    assert_eq!(check(&signer.token_with(change), &signer.trusted()).unwrap().id, w());
}

fn without(member: &'static str) -> impl FnOnce(&mut Value) {
    move |object| assert!(object.as_object_mut().unwrap().remove(member).is_some())
}

fn with(member: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |object| object[member] = value
}

#[test]
fn js_01_token_is_three_parts_of_base64url_without_padding() {
    let signer = Signer::es256();
    let (token, bundles) = (signer.token(), signer.trusted());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    for broken in [
        String::new(),
        "a.b".to_owned(),
        format!("{header}.{payload}"),
        format!("{token}.{signature}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}==.{signature}"),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}.{payload}.!!"),
        format!("{token}\n"),
        format!(" {token}"),
    ] {
        assert!(matches!(check(&broken, &bundles), Err(Malformed(_))), "{broken}");
    }
    let unsigned = format!("{header}.{payload}.");
    assert_eq!(check(&unsigned, &bundles), Err(BadSignature("k1".into())));
}

#[test]
fn js_02_json_serialization_is_refused() {
    let signer = Signer::es256();
    let token = signer.token();
    let parts: Vec<&str> = token.split('.').collect();
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
    let general = json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
    for document in [flattened, general] {
        assert!(matches!(check(&document.to_string(), &signer.trusted()), Err(Malformed(_))));
    }
}

#[test]
fn js_03_encrypted_token_of_five_parts_is_refused() {
    let signer = Signer::es256();
    let header = part(&json!({ "alg": "RSA-OAEP", "enc": "A256GCM", "kid": "k1" }).to_string());
    assert!(matches!(check(&format!("{header}.YQ.YQ.YQ.YQ"), &signer.trusted()), Err(Malformed(_))));
}

#[test]
fn js_05_crit_header_is_refused() {
    for named in [json!(["x"]), json!(["exp"]), json!([])] {
        assert_eq!(header_fault(with("crit", named)), CriticalHeader);
    }
}

#[test]
fn js_07_every_other_algorithm_is_refused() {
    for alg in ["none", "None", "HS256", "HS384", "HS512", "EdDSA", "ES256K", "es256", "RS1", ""] {
        assert_eq!(header_fault(with("alg", json!(alg))), UnsupportedAlg, "{alg}");
    }
    assert_eq!(header_fault(without("alg")), UnsupportedAlg);
    assert_eq!(header_fault(with("alg", json!(["ES256"]))), UnsupportedAlg);
}

#[test]
fn js_07_mac_made_with_the_public_key_is_refused() {
    let signer = Signer::es256();
    let signed =
        format!("{}.{}", part(&json!({ "alg": "HS256", "kid": "k1" }).to_string()), part(&claims().to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &signer.spki());
    let mac = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        ring::hmac::sign(&key, signed.as_bytes()),
    );
    assert_eq!(check(&format!("{signed}.{mac}"), &signer.trusted()), Err(UnsupportedAlg));
}

/// Everything else in these tokens is garbage too: a reader that looked further would say so.
#[test]
fn js_08_algorithm_is_judged_before_anything_else() {
    let signer = Signer::es256();
    let header = |header: Value| part(&header.to_string());
    for token in [
        format!("{}.!!not base64!!.!!", header(json!({ "alg": "none" }))),
        format!("{}.{}.", header(json!({ "alg": "none", "crit": ["x"], "typ": 7, "kid": "" })), part("garbage")),
    ] {
        assert_eq!(check(&token, &signer.trusted()), Err(UnsupportedAlg));
    }
}

#[test]
fn js_12_token_without_kid_is_refused() {
    assert_eq!(header_fault(without("kid")), MissingKeyId);
    assert_eq!(header_fault(with("kid", json!(""))), MissingKeyId);
    assert!(matches!(header_fault(with("kid", json!(1))), Malformed(_)));
}

#[test]
fn js_13_typ_is_absent_jwt_or_jose() {
    let signer = Signer::es256();
    let bundles = signer.trusted();
    assert!(check(&signer.token_with_header(without("typ")), &bundles).is_ok());
    for typ in ["JWT", "JOSE"] {
        assert!(check(&signer.token_with_header(with("typ", json!(typ))), &bundles).is_ok(), "{typ}");
    }
    for typ in [json!("jwt"), json!("at+jwt"), json!("wit+jwt"), json!(""), json!(null), json!(1)] {
        assert_eq!(header_fault(with("typ", typ.clone())), BadTyp, "{typ}");
    }
}

#[test]
fn js_14_further_claims_are_accepted_and_kept() {
    let signer = Signer::es256();
    let token = signer.token_with(with("https://example.org/role", json!("reader")));
    let svid = check(&token, &signer.trusted()).unwrap();
    assert_eq!(svid.claims["https://example.org/role"], "reader");
}

#[test]
fn js_17_sub_must_be_a_spiffe_id() {
    assert_eq!(claims_fault(without("sub")), MissingSub);
    assert_eq!(claims_fault(with("sub", json!(""))), InvalidSub(IdError::Empty));
    assert_eq!(claims_fault(with("sub", json!("foo"))), InvalidSub(IdError::WrongScheme));
    assert_eq!(claims_fault(with("sub", json!("spiffe://example.org/"))), InvalidSub(IdError::TrailingSlash));
    assert_eq!(claims_fault(with("sub", json!("spiffe://Example.org/w"))), InvalidSub(IdError::BadTrustDomainChar));
    assert!(matches!(claims_fault(with("sub", json!([W]))), Malformed(_)));
}

#[test]
fn js_19_token_without_audience_is_refused() {
    assert_eq!(claims_fault(without("aud")), MissingAud);
    assert_eq!(claims_fault(with("aud", json!([]))), MissingAud);
}

#[test]
fn js_21_audience_is_a_string_or_an_array_of_strings() {
    claims_accepted(with("aud", json!(AUDIENCE)));
    claims_accepted(with("aud", json!(["other", AUDIENCE])));
    for aud in [json!(1), json!(null), json!([1]), json!([AUDIENCE, null]), json!({ "a": AUDIENCE })] {
        assert!(matches!(claims_fault(with("aud", aud.clone())), Malformed(_)), "{aud}");
    }
    assert_eq!(claims_fault(with("aud", json!([""]))), MissingAud);
    assert_eq!(claims_fault(with("aud", json!(""))), MissingAud);
}

#[test]
fn js_25_token_without_expiry_is_refused() {
    assert_eq!(claims_fault(without("exp")), MissingExp);
    assert!(matches!(claims_fault(with("exp", json!("1900000000"))), Malformed(_)));
    assert!(matches!(claims_fault(with("exp", json!(null))), Malformed(_)));
}

#[test]
fn js_29_dates_may_be_fractions_and_have_exponents() {
    let signer = Signer::es256();
    let accepted = |exp: &str| {
        let claims = format!(r#"{{"sub":"{W}","aud":"{AUDIENCE}","exp":{exp}}}"#);
        check(&signer.sign_text(&signer.header().to_string(), &claims), &signer.trusted()).map(|svid| svid.expires_at.0)
    };
    assert_eq!(accepted("1.9e9"), Ok(1_900_000_000));
    assert_eq!(accepted("1800000300.9"), Ok(1_800_000_300));
    assert_eq!(accepted("18446744073709551615"), Ok(i64::MAX));
    assert_eq!(accepted("1800000000.5"), Err(Expired { expires_at: NOW, now: NOW }));
    assert!(accepted("-1").is_err());
}

#[test]
fn js_41_neither_errors_nor_values_hold_the_token() {
    let signer = Signer::es256();
    let token = signer.token();
    let parts: Vec<&str> = token.split('.').collect();
    let svid = check(&token, &signer.trusted()).unwrap();
    let refused = check(&token, &Signer::es256().trusted()).unwrap_err();
    let printed = format!("{svid:?} {refused} {refused:?}");
    assert!(!parts.iter().any(|part| printed.contains(part)), "{printed}");
}

#[test]
fn cf_02_key_name_is_required() {
    assert_eq!(header_fault(without("kid")), MissingKeyId);
}

#[test]
fn cf_10_audience_is_read_in_both_forms() {
    claims_accepted(with("aud", json!(AUDIENCE)));
    claims_accepted(with("aud", json!([AUDIENCE])));
}

#[test]
fn cf_11_unknown_headers_are_ignored_but_crit_is_not() {
    let signer = Signer::es256();
    assert!(check(&signer.token_with_header(with("x", json!("y"))), &signer.trusted()).is_ok());
    assert_eq!(header_fault(with("crit", json!(["x"]))), CriticalHeader);
}

/// RFC 7519 section 4: what a second `sub` means would depend on the reader.
#[test]
fn member_named_twice_is_refused() {
    let signer = Signer::es256();
    let header = signer.header().to_string();
    let twice = claims().to_string().replacen('{', r#"{"sub":"spiffe://example.org/other","#, 1);
    assert!(matches!(check(&signer.sign_text(&header, &twice), &signer.trusted()), Err(Malformed(_))));
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    assert!(matches!(check(&signer.sign_text(&twice, &claims().to_string()), &signer.trusted()), Err(Malformed(_))));
}

#[test]
fn token_beyond_32_kib_is_refused_unread() {
    let signer = Signer::es256();
    let token = signer.token_with(with("padding", json!("x".repeat(32 * 1024))));
    assert!(matches!(check(&token, &signer.trusted()), Err(TooLong { max: 32_768, .. })));
}

#[test]
fn holder_reads_its_own_token_without_a_bundle() {
    let token = Signer::es256().token();
    let read = peek_unverified(&token).unwrap();
    assert_eq!((read.id, read.audience), (w(), vec![AUDIENCE.to_owned()]));
    assert_eq!((read.expires_at, read.issued_at), (NOW.plus(300), Some(NOW)));
    assert!(peek_unverified("a.b.c").is_err());
}
