use chancery_sdk::jwt::{
    JwtBundle, JwtBundleSet,
    JwtError::{self, *},
    JwtSvid,
};
use serde_json::{Value, json};

use crate::support::{
    NOW, W,
    jwt::{ALL, AUDIENCE, Signer, check},
    td, td2, w,
};

fn with(member: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |object| object[member] = value
}

/// Verifies a token with this `exp` and leeway.
fn expiring(seconds_from_now: i64, leeway: u64) -> Result<(), JwtError> {
    let signer = Signer::es256();
    let token = signer.token_with(with("exp", json!(NOW.0 + seconds_from_now)));
    JwtSvid::verify(&token, &signer.trusted(), AUDIENCE, NOW, leeway).map(drop)
}

fn bad_signature() -> JwtError {
    BadSignature("k1".into())
}

#[test]
fn id_34_identity_and_signature_cannot_be_taken_apart() {
    let signer = Signer::es256();
    let (one, two) = (signer.token(), signer.token_with(with("sub", json!("spiffe://example.org/other"))));
    let (parts, others): (Vec<_>, Vec<_>) = (one.split('.').collect(), two.split('.').collect());
    let swapped = [parts[0], others[1], parts[2]].join(".");
    assert_eq!(check(&swapped, &signer.trusted()), Err(bad_signature()));
}

/// A claim is the word of the domain that signed it: it is handed out only beside that domain's ID.
#[test]
fn id_38_foreign_claims_stay_with_the_foreign_identity() {
    let signer = Signer::es256();
    let token = signer.token_with(|claims| {
        claims["sub"] = json!("spiffe://other.test/w");
        claims["role"] = json!("admin");
    });
    let svid = check(&token, &JwtBundleSet::from(signer.bundle(td2()))).unwrap();
    assert_eq!(svid.id.trust_domain(), td2());
    assert!(!format!("{svid:?}").contains("admin"));
}

#[test]
fn js_05_key_in_the_header_is_not_used() {
    let (trusted, attacker) = (Signer::es256(), Signer::es256());
    let jwks: Value = serde_json::from_slice(&attacker.bundle(td()).to_jwks()).unwrap();
    let token = attacker.token_with_header(|header| {
        header["jwk"] = jwks["keys"][0].clone();
        header["jku"] = json!("https://attacker.test/keys");
        header["x5u"] = json!("https://attacker.test/cert");
        header["x5c"] = json!(["AAAA"]);
    });
    assert_eq!(check(&token, &trusted.trusted()), Err(bad_signature()));
}

#[test]
fn js_09_all_nine_algorithms_verify() {
    for alg in ALL {
        let signer = Signer::new(alg);
        assert_eq!(check(&signer.token(), &signer.trusted()).map(|svid| svid.id), Ok(w()), "{alg}");
        let other = Signer::new(alg);
        assert_eq!(check(&signer.token(), &other.trusted()), Err(bad_signature()), "{alg}");
    }
}

#[test]
fn js_10_algorithm_must_fit_the_key() {
    let misfit = |alg: &'static str, key: &str| {
        let signer = Signer::new(ALL.into_iter().find(|known| *known == key).unwrap());
        let refused = check(&signer.token_with_header(with("alg", json!(alg))), &signer.trusted());
        assert_eq!(refused, Err(AlgDoesNotFitKey { alg, kid: "k1".into() }), "{alg} with a key for {key}");
    };
    misfit("ES256", "ES384");
    misfit("ES384", "ES256");
    misfit("ES512", "ES256");
    misfit("RS256", "ES256");
    misfit("PS256", "ES256");
    misfit("ES256", "RS256");
}

/// The key of RS256 may sign PS256, but a signature of one scheme is none of the other.
#[test]
fn js_10_rsa_schemes_are_not_mixed() {
    let signer = Signer::new("RS256");
    let token = signer.token_with_header(with("alg", json!("PS256")));
    assert_eq!(check(&token, &signer.trusted()), Err(bad_signature()));
}

#[test]
fn js_19_verifier_must_name_its_audience() {
    let signer = Signer::es256();
    let verified = JwtSvid::verify(&signer.token(), &signer.trusted(), "", NOW, 0);
    assert_eq!(verified, Err(NoExpectedAudience));
}

#[test]
fn js_20_token_for_others_is_refused() {
    let signer = Signer::es256();
    let token = signer.token_with(with("aud", json!(["a", "b", "long"])));
    let by = |audience: &str| JwtSvid::verify(&token, &signer.trusted(), audience, NOW, 0).map(drop);
    assert_eq!(by("b"), Ok(()));
    for other in ["c", "A", "aa", "a ", "b/", "lon", "ong"] {
        assert_eq!(by(other), Err(AudienceMismatch(other.into())));
    }
}

#[test]
fn js_26_expired_token_is_refused_beyond_the_leeway() {
    let expired = |seconds: i64| Err(Expired { expires_at: NOW.plus(seconds), now: NOW });
    assert_eq!(expiring(1, 0), Ok(()));
    assert_eq!(expiring(0, 0), expired(0));
    assert_eq!(expiring(-1, 0), expired(-1));
    assert_eq!(expiring(-1, 60), Ok(()));
    assert_eq!(expiring(-59, 60), Ok(()));
    assert_eq!(expiring(-61, 60), expired(-61));
}

#[test]
fn js_26_leeway_is_small_whatever_is_asked() {
    assert_eq!(expiring(-299, u64::MAX), Ok(()));
    assert_eq!(expiring(-301, u64::MAX), Err(Expired { expires_at: NOW.plus(-301), now: NOW }));
}

#[test]
fn js_28_token_of_the_future_is_refused() {
    let signer = Signer::es256();
    let begins = |seconds: i64, leeway: u64| {
        let token = signer.token_with(with("nbf", json!(NOW.0 + seconds)));
        JwtSvid::verify(&token, &signer.trusted(), AUDIENCE, NOW, leeway).map(drop)
    };
    assert_eq!(begins(0, 0), Ok(()));
    assert_eq!(begins(300, 0), Err(NotYetValid { not_before: NOW.plus(300), now: NOW }));
    assert_eq!(begins(60, 60), Ok(()));
    assert_eq!(begins(61, 60), Err(NotYetValid { not_before: NOW.plus(61), now: NOW }));
}

#[test]
fn js_28_iat_need_not_exist() {
    let signer = Signer::es256();
    let token = signer.token_with(|claims| drop(claims.as_object_mut().unwrap().remove("iat")));
    assert_eq!(check(&token, &signer.trusted()).unwrap().issued_at, None);
}

#[test]
fn cf_14_iat_of_the_future_is_not_judged() {
    let signer = Signer::es256();
    let token = signer.token_with(with("iat", json!(NOW.0 + 9_999)));
    assert_eq!(check(&token, &signer.trusted()).unwrap().issued_at, Some(NOW.plus(9_999)));
}

#[test]
fn js_30_key_of_another_domain_is_not_used() {
    let (own, foreign) = (Signer::es256(), Signer::es256().named("k2"));
    let bundles = JwtBundleSet::from_iter([own.bundle(td()), foreign.bundle(td2())]);
    let unknown = UnknownKey { kid: "k2".into(), trust_domain: td() };
    assert_eq!(check(&foreign.token(), &bundles), Err(unknown));
    let same_name = foreign.named("k1");
    assert_eq!(check(&same_name.token(), &bundles), Err(bad_signature()));
}

#[test]
fn js_31_token_of_an_unknown_domain_is_refused() {
    let signer = Signer::es256();
    let foreign_only = JwtBundleSet::from(signer.bundle(td2()));
    assert_eq!(check(&signer.token(), &foreign_only), Err(NoBundleForTrustDomain(td())));
}

#[test]
fn js_38_domain_without_jwt_keys_has_no_tokens() {
    let empty = JwtBundleSet::from(JwtBundle::new(td()));
    assert_eq!(check(&Signer::es256().token(), &empty), Err(NoBundleForTrustDomain(td())));
}

#[test]
fn js_39_jti_is_allowed_and_not_tracked() {
    let signer = Signer::es256();
    let (token, bundles) = (signer.token_with(with("jti", json!("1"))), signer.trusted());
    assert!(check(&token, &bundles).is_ok());
    assert!(check(&token, &bundles).is_ok());
}

#[test]
fn tb_14_token_is_refused_after_the_bundle_became_empty() {
    let signer = Signer::es256();
    let mut bundles = signer.trusted();
    assert!(check(&signer.token(), &bundles).is_ok());
    bundles.insert(JwtBundle::new(td()));
    assert_eq!(check(&signer.token(), &bundles), Err(NoBundleForTrustDomain(td())));
}

#[test]
fn verified_token_tells_what_it_says() {
    let signer = Signer::es256();
    let svid = check(&signer.token(), &signer.trusted()).unwrap();
    assert_eq!((svid.id, svid.audience), (w(), vec![AUDIENCE.to_owned()]));
    assert_eq!((svid.expires_at, svid.issued_at), (NOW.plus(300), Some(NOW)));
    assert_eq!(svid.claims["sub"], W);
}
