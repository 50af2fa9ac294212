//! What a token must do, whatever its module.

use std::sync::Arc;

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{State, Token, TokenConfig, TokenError},
    public_key::PublicKey,
};
use chancery_hsm::Site;

/// The configuration of a site.
pub fn config(site: &Site) -> TokenConfig {
    let mut config = TokenConfig::new(site.module.clone(), site.uri.clone());
    config.pin_file = Some(site.pin_file.clone());
    config
}

pub fn open(site: &Site) -> Arc<Token> {
    Token::open(config(site)).unwrap()
}

/// Labels of one test do not meet those of another run.
pub fn label(name: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("chancery/{name}/{:022}", nanos % 10_u128.pow(22))
}

/// Makes, finds, uses and destroys a key of each kind.
pub fn keys_live_and_die(site: &Site, kinds: &[KeyType]) {
    let token = open(site);
    for kind in kinds {
        let label = label("x509");
        let key = token.generate(&label, *kind).unwrap();
        assert_eq!((key.key_type(), key.label()), (*kind, label.as_str()));
        let public = PublicKey::from_spki(key.spki()).unwrap();
        for message in [b"".as_slice(), b"m", &[7; 5000]] {
            assert!(public.verifies(message, &key.sign(message).unwrap()), "{kind}");
        }
        assert!(matches!(token.generate(&label, *kind), Err(TokenError::Exists(_))));
        for spki in [None, Some(key.spki())] {
            let again = token.find(&label, spki).unwrap().unwrap();
            assert_eq!(again.spki(), key.spki());
            assert!(public.verifies(b"m", &again.sign(b"m").unwrap()));
        }
        assert_eq!(token.labels("chancery/").unwrap(), std::slice::from_ref(&label));
        assert!(token.labels("other/").unwrap().is_empty());
        let other = [key.spki(), &[0]].concat();
        assert!(matches!(token.find(&label, Some(&other)), Err(TokenError::OtherKey(_))));
        assert!(matches!(token.destroy(&label, &other), Err(TokenError::OtherKey(_))));
        token.destroy(&label, key.spki()).unwrap();
        token.destroy(&label, key.spki()).unwrap();
        assert!(token.find(&label, None).unwrap().is_none());
        assert!(matches!(key.sign(b"m"), Err(TokenError::KeyMissing(_))), "{:?}", key.sign(b"m"));
    }
    assert_eq!(token.health().state, State::Degraded);
}

/// Many threads sign at once; each signature is right.
pub fn many_sign_at_once(site: &Site, kind: KeyType, each: usize) {
    let token = open(site);
    let label = label("many");
    let key = token.generate(&label, kind).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let key = key.clone();
            scope.spawn(move || {
                for n in 0..each {
                    key.sign(format!("{thread} {n}").as_bytes()).unwrap();
                }
            });
        }
    });
    assert_eq!(token.health().state, State::Up);
    token.destroy(&label, key.spki()).unwrap();
}

/// A key outlives the token's value, and the module's.
pub fn keys_outlive_the_process_of_their_making(site: &Site, kind: KeyType) {
    let label = label("kept");
    let spki = open(site).generate(&label, kind).unwrap().spki().to_vec();
    let token = open(site);
    let key = token.find(&label, Some(&spki)).unwrap().unwrap();
    key.sign(b"m").unwrap();
    token.destroy(&label, &spki).unwrap();
}
