//! Certificate revocation lists, judged by programs that are not ours.

use std::process::Command;

use chancery_sdk::x509::VerifiedCrl;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::{
    crls::{self, Lists},
    keys::file,
    revoke::{self, Target},
    store::{Order, StoredCrl},
};

async fn begun(world: &World, token: u8) -> X509 {
    let key = KeyPair::generate().unwrap();
    instance::begin(&world.state, &world.node, &process(token), &csr(&key)).await.unwrap()
}

async fn revoked(world: &World, id: &SpiffeId) {
    let order = Order { reason: "key leaked".into(), caller: "uid 0".into() };
    revoke::revoke(&world.state, Target::Instance(id.clone()), order).await.unwrap();
}

/// The newest lists as every server has them.
fn lists(world: &World) -> Vec<Arc<StoredCrl>> {
    world.state.view.crls(world.state.now())
}

/// The trust domain's X.509 authorities.
fn authorities(world: &World) -> Vec<CertificateDer<'static>> {
    let published = world.state.authority.published().borrow().clone();
    published.bundle(AuthorityKind::X509).into_iter().map(|a| CertificateDer::from(a.public)).collect()
}

/// What `openssl verify` says of a chain (leaf first) when it asks every CA's list.
fn openssl(world: &World, chain: &[CertificateDer<'static>]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let pem = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| file::pem("CERTIFICATE", der)).collect::<String>();
    let crls = crls::answer(&world.state, &crls::Written::default(), "/crl.pem").unwrap();
    assert_eq!(crls.status, 200);
    let (leaf, between) = chain.split_at(1);
    let files = [
        ("leaf", pem(leaf)),
        ("between", pem(between)),
        ("ca", pem(&authorities(world))),
        ("crl", text(crls.body.to_vec())),
    ];
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let mut command = Command::new("openssl");
    command.current_dir(&dir).args(["verify", "-crl_check_all", "-x509_strict", "-CAfile", "ca", "-CRLfile", "crl"]);
    if !between.is_empty() {
        command.args(["-untrusted", "between"]);
    }
    let done = command.arg("leaf").output().expect("openssl is there: scripts/setup installs it");
    match done.status.success() {
        true => Ok(()),
        false => Err(text([done.stdout, done.stderr].concat())),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// openssl accepts what was not revoked, refuses what was, and reads the list of a CA that took nothing back.
async fn openssl_judges(world: World) {
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (first, second) = (begun(&world, 1).await, begun(&world, 2).await);
    let mut signer = Lists::default();
    signer.pass(&world.state, true).await.unwrap();
    let empty = lists(&world);
    assert!(!empty.is_empty() && empty.iter().all(|crl| crl.revoked == 0));
    openssl(&world, &first.chain).unwrap();
    revoked(&world, &first.id).await;
    openssl(&world, &first.chain).unwrap();
    signer.pass(&world.state, true).await.unwrap();
    let told = openssl(&world, &first.chain).unwrap_err();
    assert!(told.contains("certificate revoked"), "{told}");
    openssl(&world, &second.chain).unwrap();
    for (old, new) in empty.iter().zip(lists(&world)) {
        assert!(new.number > old.number && new.revoked > 0, "{new:?}");
        let chain: Vec<_> = crate::authority::chain::concatenated(&new.chain);
        let verified = VerifiedCrl::verify(&new.der, &chain, &authorities(&world), world.state.now()).unwrap();
        assert_eq!(hex::encode(verified.issuer), new.issuer);
        let asked = crls::answer(&world.state, &crls::Written::default(), &format!("/crl/{}.crl", new.issuer)).unwrap();
        assert_eq!((asked.content_type, asked.body.to_vec()), ("application/pkix-crl", new.der.clone()));
    }
    assert!(
        crls::answer(&world.state, &crls::Written::default(), "/crl/00.crl").is_none()
            && crls::answer(&world.state, &crls::Written::default(), "/").is_none()
    );
}

#[tokio::test]
async fn openssl_refuses_a_revoked_leaf_by_our_list_and_no_other() {
    openssl_judges(world().await).await;
}

#[tokio::test]
async fn openssl_refuses_a_revoked_leaf_of_a_delegated_issuer_by_that_ones_list() {
    let world = world_with("delegated_issuer = \"4h\"\n").await;
    openssl_judges(world).await;
}

#[tokio::test]
async fn a_list_is_signed_again_for_what_is_revoked_and_not_otherwise() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let first = begun(&world, 1).await;
    let mut signer = Lists::default();
    for _ in 0..3 {
        signer.pass(&world.state, true).await.unwrap();
    }
    assert_eq!(recorded(&world.state, "crl.signed").await, 1, "nothing was revoked");
    revoked(&world, &first.id).await;
    signer.pass(&world.state, false).await.unwrap();
    assert_eq!(recorded(&world.state, "crl.signed").await, 1, "nobody told it");
    signer.pass(&world.state, true).await.unwrap();
    assert_eq!(recorded(&world.state, "crl.signed").await, 2);
    // Another run of the server: its numbers go on.
    let before = lists(&world)[0].number;
    Lists::default().pass(&world.state, false).await.unwrap();
    assert_eq!(lists(&world)[0].number, before + 1);
}

#[tokio::test]
async fn a_list_is_signed_again_when_it_is_half_over() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), crate::sample::Hand::now());
    let (state, _) = crate::sample::parts(dir.path(), hand.clock()).await;
    let (begun, mut signer) = (hand.read(), Lists::default());
    let life = state.config.crl.lifetime.as_secs();
    for (secs, signed) in [(0, 1), (life / 2 - 1, 1), (life / 2, 2), (life - 1, 2), (life, 3)] {
        hand.set(begun.plus(secs));
        signer.pass(&state, false).await.unwrap();
        assert_eq!(recorded(&state, "crl.signed").await, signed, "after {secs} s");
    }
}
