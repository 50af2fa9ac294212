//! A token that goes away and comes back while it signs: SoftHSM2 behind a p11-kit server that is killed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{State, Token, TokenError},
    public_key::PublicKey,
};
use chancery_hsm::{Network, in_child, site, softhsm2};

use crate::contract::{config, label, open};

/// Longest wait of either side for the other.
const PATIENCE: Duration = Duration::from_secs(40);

fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The child signs; the parent kills and starts the server when the child says so, by files beside the PIN.
fn with_server(test: &str, child: impl FnOnce(&Path), parent: impl FnOnce(&Path, &mut Network) + Send) {
    if let Some(site) = site() {
        return child(&site.pin_file);
    }
    let mut network = Network::serve(softhsm2("net-a").unwrap()).unwrap();
    let client = network.client().unwrap();
    let pin = client.pin_file.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| parent(&pin, &mut network));
        assert!(!in_child(&format!("network::{test}"), &client));
    });
}

#[test]
fn a_network_hsm_that_is_killed_and_comes_back_signs_again_with_the_same_keys() {
    with_server(
        "a_network_hsm_that_is_killed_and_comes_back_signs_again_with_the_same_keys",
        |pin| {
            let token = open(&site().unwrap());
            let keys: Vec<_> = (0..3).map(|_| token.generate(&label("net"), KeyType::EcP256).unwrap()).collect();
            let signs = |n: usize| {
                let key = &keys[n % keys.len()];
                let public = PublicKey::from_spki(key.spki()).unwrap();
                key.sign(&n.to_be_bytes()).map(|signature| assert!(public.verifies(&n.to_be_bytes(), &signature)))
            };
            for round in 0..2 {
                (0..30).for_each(|n| signs(n).unwrap());
                fs::write(pin.with_extension(format!("kill{round}")), "").unwrap();
                until("the token never went away", || match signs(0) {
                    Ok(()) => false,
                    Err(problem) => {
                        assert!(problem.is_transient(), "{problem}");
                        true
                    }
                });
                until("health stayed green", || token.health().state == State::Down);
                fs::write(pin.with_extension(format!("start{round}")), "").unwrap();
                until("the token never came back", || signs(1).is_ok());
                assert_eq!(token.health().state, State::Up);
            }
            assert!(token.generation() > 1);
        },
        |pin, network| {
            for round in 0..2 {
                until("the child never began", || pin.with_extension(format!("kill{round}")).exists());
                network.kill();
                until("the child never noticed", || pin.with_extension(format!("start{round}")).exists());
                network.start().unwrap();
            }
        },
    );
}

#[test]
fn a_server_that_is_not_there_at_the_start_is_told() {
    with_server(
        "a_server_that_is_not_there_at_the_start_is_told",
        |pin| {
            fs::write(pin.with_extension("kill"), "").unwrap();
            until("the server lives", || pin.with_extension("killed").exists());
            let told = Token::open(config(&site().unwrap())).unwrap_err();
            assert!(!matches!(told, TokenError::Timeout(_) | TokenError::AuthFailed(_)), "{told}");
        },
        |pin, network| {
            until("the child never began", || pin.with_extension("kill").exists());
            network.kill();
            fs::write(pin.with_extension("killed"), "").unwrap();
        },
    );
}
