//! A key that somebody else made in a token, as upstream authorities and ceremonies use it.

use chancery_ca::keys::{
    KeyError,
    token_key::{OpenToken, TokenKeyConfig},
};
use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Token, TokenError},
    public_key::PublicKey,
};
use chancery_hsm::{Site, in_child, site, softhsm2};

use crate::tokens::config;

fn named(site: &Site, label: &str) -> TokenKeyConfig {
    let config = config(site);
    TokenKeyConfig {
        module: config.module,
        uri: config.uri,
        label: label.into(),
        pin_file: config.pin_file,
        pin_env: None,
        deadline: config.deadline,
    }
}

#[test]
fn a_key_that_is_there_is_used_by_its_public_half_and_no_other() {
    let Some(site) = site() else {
        let test = "existing::a_key_that_is_there_is_used_by_its_public_half_and_no_other";
        assert!(!in_child(test, &softhsm2("up-a").unwrap()));
        return;
    };
    let maker = Token::open(config(&site)).unwrap();
    for (label, kind) in [("corp ca 2026", KeyType::EcP384), ("corp rsa", KeyType::Rsa2048)] {
        let made = maker.generate(label, kind).unwrap();
        let key = OpenToken::open(&named(&site, label), None).unwrap().signer(made.spki()).unwrap();
        let public = PublicKey::from_spki(made.spki()).unwrap();
        assert!(public.verifies(b"message", &key.sign(b"message").unwrap()), "{label}");
        assert_eq!((key.key_type(), key.spki()), (kind, made.spki()));
    }
    let other = maker.generate("other", KeyType::EcP384).unwrap();
    let token = OpenToken::open(&named(&site, "corp ca 2026"), None).unwrap();
    let told = token.signer(other.spki()).unwrap_err();
    assert!(matches!(told, KeyError::NotCertified(_)), "{told}");
    let told = OpenToken::open(&named(&site, "absent"), None).unwrap().signer(other.spki()).unwrap_err();
    assert!(matches!(told, KeyError::Absent(_)), "{told}");
}

#[test]
fn a_wrong_pin_for_such_a_key_is_tried_once_in_all() {
    let Some(site) = site() else {
        assert!(!in_child("existing::a_wrong_pin_for_such_a_key_is_tried_once_in_all", &softhsm2("up-b").unwrap()));
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("pin");
    chancery_daemon::file::write_atomic(&wrong, b"00000000", 0o600).unwrap();
    let config = TokenKeyConfig { pin_file: Some(wrong), ..named(&site, "k") };
    let marker = dir.path().join("refused");
    let open = || OpenToken::open(&config, Some(marker.clone())).unwrap_err();
    let first = open();
    assert!(
        matches!(&first, KeyError::Token(TokenError::AuthFailed(why)) if why.contains("CKR_PIN_INCORRECT")),
        "{first}"
    );
    let second = open();
    assert!(second.to_string().contains("refused before"), "{second}");
}
