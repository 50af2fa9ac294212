//! What this crate accepts, the `spiffe` crate accepts with the same meaning.
//!
//! The other way it does not hold: `spiffe` 0.19 also takes what is listed here, and nothing else was found.
//! - upper case in scheme and trust domain, folded (ID-07, ID-22);
//! - IDs beyond 2048 bytes (ID-26);
//! - leaves whose key belongs to another, chains with unrelated certificates (XS-37, XS-38);
//! - tokens with `crit`, odd `typ`, empty audiences or an undecodable signature, in its parser (JS-01, JS-05, JS-13, JS-21).
//!
//! One thing it refuses that is accepted here: dates with a fraction or an exponent (JS-29).

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    jwt::{JwtBundle, peek_unverified},
    x509::{X509Bundle, X509Svid},
};
use serde_json::{Value, json};

use crate::support::{
    W,
    jwt::Signer,
    td, w,
    x509::{Issued, root, uri},
};

/// Texts around every rule of SPIFFE-ID section 2.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = ["", "s", "spiffe:/a", "//a", "http://a/b", "spiffe://", "spiffe:///", "spiffe:///w"]
        .map(str::to_owned)
        .to_vec();
    for b in 0..=u8::MAX {
        let c = char::from(b);
        texts.push(format!("spiffe://a{c}"));
        texts.push(format!("spiffe://a{c}/w"));
        texts.push(format!("spiffe://a/{c}"));
        texts.push(format!("spiffe://a/w{c}b/x"));
    }
    for path in
        ["", "/", "//", "/a/", "/a//", "/a//b", "/.", "/..", "/./a", "/a/..", "/...", "/.a", "/a.", "/a..b", "/a/b/c"]
    {
        texts.extend(["a", "1.2.3.4", "-", "..", "a.", "xn--"].map(|host| format!("spiffe://{host}{path}")));
    }
    for len in [2047, 2048, 2049] {
        texts.push(format!("spiffe://a/{}", "b".repeat(len - 11)));
    }
    texts.extend([254, 255, 256].map(|len| format!("spiffe://{}/w", "a".repeat(len))));
    texts
}

/// The known differences: what only `spiffe` accepts.
fn only_theirs(text: &str) -> bool {
    let host = text.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    host.bytes().any(|b| b.is_ascii_uppercase()) || text.len() > 2048
}

#[test]
fn ids_accepted_here_are_accepted_there_and_mean_the_same() {
    for text in texts() {
        match (SpiffeId::parse(&text), spiffe::SpiffeId::new(&text)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.to_string(), theirs.to_string());
                assert_eq!((ours.trust_domain_name(), ours.path()), (theirs.trust_domain_name(), theirs.path()));
            }
            (Ok(_), Err(theirs)) => panic!("{text:?} is refused by spiffe: {theirs}"),
            (Err(ours), Ok(_)) => assert!(only_theirs(&text), "{text:?} is accepted by spiffe, here: {ours}"),
            (Err(_), Err(_)) => {}
        }
    }
}

#[test]
fn trust_domains_accepted_here_are_accepted_there_and_mean_the_same() {
    for text in texts() {
        let name = text.strip_prefix("spiffe://").unwrap_or(&text);
        let Ok(ours) = TrustDomain::new(name) else { continue };
        assert_eq!(ours.name(), spiffe::TrustDomain::new(name).unwrap().as_str());
    }
}

fn both(chain: &[&Issued]) -> (Option<SpiffeId>, Option<String>) {
    let der: Vec<u8> = chain.iter().flat_map(|issued| issued.der.iter().copied()).collect();
    let key = chain[0].key.serialized_der();
    let ours = X509Svid::parse(&der, key).ok().map(|svid| svid.id().clone());
    let theirs = spiffe::X509Svid::parse_from_der(&der, key).ok().map(|svid| svid.spiffe_id().to_string());
    (ours, theirs)
}

#[test]
fn svids_accepted_here_are_accepted_there_and_mean_the_same() {
    let root = root();
    let (a, unrelated) = (root.ca("a"), root.ca("unrelated"));
    let leaf = a.leaf();
    for chain in [vec![&leaf], vec![&leaf, &a], vec![&leaf, &a, &root]] {
        assert_eq!(both(&chain), (Some(w()), Some(W.to_owned())));
    }
    let two = root.leaf_with(|params| params.subject_alt_names = vec![uri(W), uri(W)]);
    let no_path = root.leaf_of("spiffe://example.org");
    for chain in [vec![&two], vec![&no_path], vec![&root], vec![&a, &leaf]] {
        assert_eq!(both(&chain), (None, None));
    }
    // Known: unrelated certificates, and a key that is not the leaf's, pass there.
    assert_eq!(both(&[&leaf, &unrelated]), (None, Some(W.to_owned())));
    let other = root.leaf();
    assert!(X509Svid::parse(&leaf.der, other.key.serialized_der()).is_err());
    assert!(spiffe::X509Svid::parse_from_der(&leaf.der, other.key.serialized_der()).is_ok());
}

#[test]
fn bundles_written_here_are_read_there() {
    let (a, b, signer) = (root(), root(), Signer::es256());
    let mut x509: X509Bundle = a.bundle(td());
    x509.insert(b.der).unwrap();
    let domain = spiffe::TrustDomain::new("example.org").unwrap();
    let theirs = spiffe::X509Bundle::parse_from_der(domain.clone(), &x509.to_der_concatenated()).unwrap();
    let same = theirs.authorities().iter().zip(x509.authorities()).all(|(t, o)| t.as_bytes() == o.as_ref());
    assert!(same && theirs.authorities().len() == 2);
    let jwt: JwtBundle = signer.bundle(td());
    let theirs = spiffe::JwtBundle::from_jwt_authorities(domain, &jwt.to_jwks()).unwrap();
    assert!(theirs.find_jwt_authority("k1").is_some());
}

#[test]
fn tokens_accepted_here_are_accepted_there_and_mean_the_same() {
    let signer = Signer::es256();
    let theirs = |token: &str| spiffe::JwtSvid::parse_insecure(token).ok().map(|svid| svid.spiffe_id().to_string());
    let ours = |token: &str| peek_unverified(token).ok().map(|read| read.id.to_string());
    let with = |member: &'static str, value: Value| signer.token_with(|claims| claims[member] = value);
    for token in [signer.token(), with("aud", json!("a")), with("x", json!(1)), with("nbf", json!(1))] {
        assert_eq!((ours(&token), theirs(&token)), (Some(W.to_owned()), Some(W.to_owned())));
    }
    for token in [with("sub", json!("foo")), with("aud", json!([])), with("exp", json!("1")), "a.b".to_owned()] {
        assert_eq!((ours(&token), theirs(&token)), (None, None), "{token}");
    }
    // Known: refused here and taken there, and the other way round.
    let crit = signer.token_with_header(|header| header["crit"] = json!(["x"]));
    for token in [crit, with("aud", json!([""])), with("sub", json!("spiffe://Example.org/w"))] {
        assert!(ours(&token).is_none() && theirs(&token).is_some());
    }
    assert!(ours(&with("exp", json!(1.9e9))).is_some());
    assert!(theirs(&with("exp", json!(1_900_000_000.5))).is_none());
}
