//! Every single bit of a leaf and of a token, flipped: refused, or of the same meaning; never a panic.

use chancery_sdk::{
    jwt::JwtSvid,
    x509::{leaf_id, verify},
};

use crate::support::{
    NOW,
    jwt::{AUDIENCE, Signer},
    x509::{check, root, trusting},
};

#[test]
fn id_34_flipped_bit_in_a_leaf_never_changes_who_it_is() {
    let root = root();
    let leaf = root.leaf();
    let bundles = trusting(&[&root]);
    let honest = check(&[&leaf], &bundles).unwrap();
    let mut refused = 0;
    for bit in 0..leaf.der.len() * 8 {
        let mut der = leaf.der.to_vec();
        der[bit / 8] ^= 1 << (bit % 8);
        let _ = leaf_id(&der);
        match verify(&[der.into()], &bundles, NOW) {
            Ok(peer) => assert_eq!((&peer.id, peer.not_after), (&honest.id, honest.not_after), "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(refused, leaf.der.len() * 8, "no bit of a certificate is without meaning");
}

#[test]
fn id_34_flipped_bit_in_a_token_never_changes_what_it_says() {
    let signer = Signer::es256();
    let (token, bundles) = (signer.token(), signer.trusted());
    for bit in 0..token.len() * 8 {
        let mut bytes = token.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert!(JwtSvid::verify(&text, &bundles, AUDIENCE, NOW, 0).is_err(), "bit {bit}");
    }
}

#[test]
fn truncated_certificates_and_tokens_are_refused() {
    let leaf = root().leaf();
    for len in 0..leaf.der.len() {
        assert!(leaf_id(&leaf.der[..len]).is_err(), "{len} bytes");
    }
    let signer = Signer::es256();
    let (token, bundles) = (signer.token(), signer.trusted());
    for len in 0..token.len() {
        assert!(JwtSvid::verify(&token[..len], &bundles, AUDIENCE, NOW, 0).is_err(), "{len} bytes");
    }
}
