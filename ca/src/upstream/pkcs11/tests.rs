use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use chancery_daemon::{
    config::Span,
    key_type::KeyType,
    pkcs11::{Token, TokenConfig},
};
use chancery_hsm::{Network, Site, in_child, site, softhsm2};
use chancery_sdk::{time::UnixTime, x509 as sdk};

use super::*;
use crate::{
    authority::subordinate::{Draft, root},
    keys::file,
    sample,
};

const HOUR: i64 = 3600;
/// Longest wait of parent and child for each other.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(site: &Site) -> TokenConfig {
    let mut config = TokenConfig::new(site.module.clone(), site.uri.clone());
    config.pin_file = Some(site.pin_file.clone());
    config
}

/// Makes a key in the token and a root of it in `dir`; the section of the configuration.
fn upstream(dir: &Path, site: &Site, label: &str, now: UnixTime) -> String {
    let maker = Token::open(config(site)).unwrap();
    let made = maker.generate(label, KeyType::EcP384).unwrap();
    let (module, uri, pin_file) = (site.module.clone(), site.uri.clone(), Some(site.pin_file.clone()));
    let key = TokenKeyConfig { module, uri, label: label.into(), pin_file, pin_env: None, deadline: Span::secs(5) };
    let signer = OpenToken::open(&key, None).unwrap().signer(made.spki()).unwrap();
    let domain = sample::domain();
    let draft = Draft {
        domain: &domain,
        spki: made.spki(),
        common_name: Some("Corporate CA"),
        path_len: Some(1),
        not_before: now,
        not_after: now.plus(1000 * HOUR),
    };
    let der = root(&draft, signer.as_ref()).unwrap();
    fs::write(dir.join("up.pem"), file::pem("CERTIFICATE", &der)).unwrap();
    section(dir, site, label)
}

fn section(dir: &Path, site: &Site, label: &str) -> String {
    format!(
        "[upstream]\nkind = \"pkcs11\"\ncertificate = \"{}/up.pem\"\n[upstream.pkcs11]\nmodule = {:?}\nuri = {:?}\n\
         label = {label:?}\npin_file = {:?}\n",
        dir.display(),
        site.module,
        site.uri,
        site.pin_file
    )
}

fn block_on(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(body);
}

#[test]
fn svids_below_a_ca_whose_key_is_in_softhsm2_are_verified_with_its_root() {
    let Some(site) = site() else {
        let test = "upstream::pkcs11::tests::svids_below_a_ca_whose_key_is_in_softhsm2_are_verified_with_its_root";
        assert!(!in_child(test, &softhsm2("up-a").unwrap()));
        return;
    };
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let hand = sample::Hand::now();
        let now = hand.read();
        let extra = upstream(dir.path(), &site, "corp ca", now);
        let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
        let (leaf, _) = sample::leaf(now, state.authority.x509_not_after().unwrap(), 600);
        let issued = state.authority.sign_x509(&leaf).unwrap();
        assert_eq!(issued.chain.len(), 2, "leaf and authority; the root is in the bundle");
        let bundles = state.authority.x509_bundles().load_full();
        assert_eq!(sdk::verify(&issued.chain, &bundles, now).unwrap().id, *leaf.id());
        assert_eq!(state.authority.upstream_trouble(), None);
    });
}

#[test]
fn a_key_in_a_token_that_is_not_the_certificates_ends_the_start() {
    let Some(site) = site() else {
        let test = "upstream::pkcs11::tests::a_key_in_a_token_that_is_not_the_certificates_ends_the_start";
        assert!(!in_child(test, &softhsm2("up-b").unwrap()));
        return;
    };
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let hand = sample::Hand::now();
        upstream(dir.path(), &site, "corp ca", hand.read());
        Token::open(config(&site)).unwrap().generate("other", KeyType::EcP384).unwrap();
        for (label, why) in [("other", "not the certificate's"), ("absent", "no key is labelled absent")] {
            let told = sample::refused_parts(dir.path(), hand.clock(), &section(dir.path(), &site, label)).await;
            assert!(told.contains("upstream.pkcs11") && told.contains(why), "{told}");
        }
    });
}

fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The parent kills and starts the token's server when the child says so, by files beside the PIN.
#[test]
fn while_the_token_is_away_what_signs_goes_on_signing_and_the_next_follows_when_it_is_back() {
    let Some(site) = site() else {
        let test = "upstream::pkcs11::tests::\
                    while_the_token_is_away_what_signs_goes_on_signing_and_the_next_follows_when_it_is_back";
        let mut network = Network::serve(softhsm2("up-c").unwrap()).unwrap();
        let client = network.client().unwrap();
        let pin = client.pin_file.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("the child never began", || pin.with_extension("kill").exists());
                network.kill();
                until("the child never noticed", || pin.with_extension("start").exists());
                network.start().unwrap();
            });
            assert!(!in_child(test, &client));
        });
        return;
    };
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let hand = sample::Hand::now();
        let extra = upstream(dir.path(), &site, "corp ca", hand.read());
        let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
        let published = || state.authority.published().borrow().authorities.len();
        let rotated = async |secs: i64| {
            hand.set(hand.read().plus(secs));
            state.authority.rotate(&state.store, hand.read()).await.unwrap();
        };
        let signing = state.authority.x509_id();
        fs::write(site.pin_file.with_extension("kill"), "").unwrap();
        until("the token never went away", || {
            let (leaf, _) = sample::leaf(hand.read(), state.authority.x509_not_after().unwrap(), 600);
            state.authority.sign_x509(&leaf).unwrap();
            state.authority.upstream_trouble().is_some()
        });
        rotated(13 * HOUR).await;
        assert_eq!((state.authority.x509_id(), published()), (signing, 3), "a JWT authority more, no X.509 one");
        assert!(state.is_ready());
        fs::write(site.pin_file.with_extension("start"), "").unwrap();
        let began = Instant::now();
        while published() < 4 {
            assert!(began.elapsed() < PATIENCE, "{:?}", state.authority.upstream_trouble());
            rotated(60).await;
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(state.authority.upstream_trouble(), None);
    });
}
