//! The enrolment task against a CA on real TLS, with real TPM emulators and the core's verifier.

mod common;
use common::process;

use std::time::Duration;

use chancery_attestor::ca::{CaError, Denial, DialError, Dialer};
use chancery_sdk::{id::TrustDomain, x509::X509Bundle};
use common::{
    Machine,
    ca::{Authority, DOMAIN, FakeCa, token_node},
    node::{Rig, Running, TOKEN, by_tpm, config},
};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_the_node_once_and_the_svid_is_renewed_at_half_of_its_life() {
    let rig = Rig::new(4).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    let first = node.identity().await;
    assert_eq!(first.id, token_node());
    rig.ca
        .until("the renewed SVID is used", |known| known.renewed > 0 && known.statuses > 1 && known.fresh.is_none())
        .await;
    node.identity.wait_for(|now| now.as_ref().is_some_and(|now| now.chain != first.chain)).await.unwrap();
    assert_eq!(rig.ca.known.borrow().attested, ["join_token"]);
    node.stop().await;
}

/// Two servers renewed one node, and the answer that came is not the one that counts: the next renewal is.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_another_one_overtook_costs_no_standing() {
    let rig = Rig::new(8).await;
    rig.ca.known.send_modify(|known| known.overtake = true);
    let mut node = Running::start(rig.config(TOKEN)).await;
    let first = node.identity().await;
    let renewed = node.identity.wait_for(|now| now.as_ref().is_none_or(|now| now.chain != first.chain)).await.unwrap();
    assert!(renewed.is_some(), "the standing was lost");
    drop(renewed);
    assert!(rig.ca.known.borrow().renewed >= 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_enrols_the_node_and_attests_again_at_half_of_the_life() {
    let machine = Machine::new();
    let rig = Rig::new(8).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let first = node.identity().await;
    assert!(first.id.path().starts_with("/spire/agent/tpm/"));
    // The first status was sent over mTLS with the key in the TPM.
    rig.ca.until("attested again", |known| known.attested.len() > 1 && known.statuses > 1).await;
    assert_eq!(rig.ca.known.borrow().asked_activation[..2], [true, false]);
    node.identity.wait_for(|now| now.as_ref().is_some_and(|now| now.chain != first.chain)).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_the_saved_svid_with_its_key_in_the_tpm() {
    let machine = Machine::new();
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let before = node.identity().await;
    node.stop().await;
    machine.tpm.reboot().unwrap();
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    assert_eq!(node.identity().await.chain, before.chain);
    assert_eq!(rig.ca.known.borrow().attested.len(), 1);
    node.ca.bundle().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_tpm_clear_the_node_attests_with_a_new_key() {
    let machine = Machine::new();
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let before = node.identity().await;
    node.stop().await;
    machine.tpm.clear().unwrap();
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let after = node.identity().await;
    assert!(after.id == before.id && after.chain != before.chain);
    assert_eq!(rig.ca.known.borrow().asked_activation, [true, true]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_state_is_moved_aside_and_the_node_attests() {
    let machine = Machine::new();
    let rig = Rig::new(3600).await;
    std::fs::create_dir(rig.dir.path().join("data")).unwrap();
    std::fs::write(rig.dir.path().join("data/node.json"), "{\"version\":1,\"svid\":").unwrap();
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    node.identity().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_node_with_a_tpm_attests_again_at_once_and_serves_on() {
    let machine = Machine::new();
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    node.identity().await;
    rig.ca.known.send_modify(|known| known.current = None);
    assert_eq!(node.ca.bundle().await, Err(CaError::Denied(Some(Denial::NotAttested))));
    rig.ca.until("attested again", |known| known.attested.len() == 2).await;
    node.identity().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_node_with_a_spent_token_loses_its_identity_until_there_is_a_new_token() {
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    node.identity().await;
    rig.ca.known.send_modify(|known| known.current = None);
    assert!(node.ca.bundle().await.is_err());
    node.without_identity().await;
    rig.ca.known.send_if_modified(|known| known.tokens.insert("second".into()));
    std::fs::write(rig.dir.path().join("token"), "second").unwrap();
    node.identity().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_node_loses_its_identity_and_its_saved_svid() {
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    node.identity().await;
    rig.ca.known.send_modify(|known| known.banned = true);
    assert_eq!(node.ca.bundle().await, Err(CaError::Denied(Some(Denial::Banned))));
    node.without_identity().await;
    assert!(matches!(node.ca.entries().await, Err(CaError::Lost(_))), "no channel is left");
    node.stop().await;
    let saved = std::fs::read_to_string(rig.dir.path().join("data/node.json")).unwrap();
    assert!(saved.contains("\"svid\":null"), "{saved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_svid_serves_while_attestation_is_refused_and_ends_at_its_end() {
    let machine = Machine::new();
    let rig = Rig::new(8).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let identity = node.identity().await;
    rig.ca.known.send_modify(|known| known.refuse = true);
    node.without_identity().await;
    assert!(chancery_daemon::clock::now() >= identity.expires_at);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_that_is_gone_and_refused_anew_ends_the_identity_at_once() {
    let machine = Machine::new();
    let rig = Rig::new(60).await;
    let mut node = Running::start(rig.config(&by_tpm(&machine))).await;
    let identity = node.identity().await;
    rig.ca.known.send_modify(|known| known.refuse = true);
    // Evicted, and refused when it attests again: the standing is gone long before the SVID ends.
    rig.ca.known.send_modify(|known| known.current = None);
    assert!(node.ca.bundle().await.is_err());
    node.without_identity().await;
    assert!(chancery_daemon::clock::now() < identity.expires_at.plus(-30));
    // Let in again as soon as the CA is willing.
    rig.ca.known.send_modify(|known| known.refuse = false);
    node.identity().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bundle_is_published_and_saved_and_an_older_one_is_not_taken() {
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    node.identity().await;
    for (sequence, published) in [(7, 7), (6, 7), (9, 9)] {
        rig.ca.known.send_modify(|known| known.sequence = sequence);
        assert_eq!(node.ca.bundle().await.unwrap().sequence_number, published);
        assert_eq!(node.identity().await.bundle.sequence_number, published);
    }
    node.stop().await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    assert_eq!(node.identity().await.bundle.sequence_number, 9, "from the state file");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_away_is_waited_for() {
    let rig = Rig::new(3600).await;
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap().to_string();
    drop(probe);
    let config = config(rig.dir.path(), &address, &rig.authority.pem, TOKEN);
    let mut node = Running::start(config).await;
    assert!(matches!(node.ca.entries().await, Err(CaError::Lost(_))));
    let _ca = FakeCa::start_as(&rig.authority, "/spire/server", &address).await;
    node.identity().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_after_the_ca_was_restarted() {
    let rig = Rig::new(3600).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    node.identity().await;
    let (address, serial) = (rig.ca.address.to_string(), rig.ca.known.borrow().current.clone());
    let Rig { ca, authority, dir: _dir } = rig;
    drop(ca);
    let again = loop {
        if std::net::TcpListener::bind(&address).is_ok() {
            break FakeCa::start_as(&authority, "/spire/server", &address).await;
        }
        tokio::task::yield_now().await;
    };
    again.known.send_modify(|known| known.current = serial);
    node.ca.bundle().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_of_another_bundle_is_told_in_one_line() {
    let rig = Rig::new(3600).await;
    let other = Authority::new();
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let bundle = X509Bundle::from_pem(domain.clone(), &other.pem).unwrap();
    let dialer = Dialer::new(&domain, vec![rig.ca.address.to_string()], bundle).unwrap();
    let error = dialer.pinned().await.err().unwrap();
    let line = error.to_string();
    assert!(matches!(error, DialError::Untrusted { .. }) && line.contains("chancery-ca bundle show"), "{line}");
}

/// Waits until nobody listens at `address`, then lets a CA of another authority answer there.
async fn stranger_at(address: &str) -> FakeCa {
    while std::net::TcpListener::bind(address).is_err() {
        tokio::task::yield_now().await;
    }
    FakeCa::start_as(&Authority::new(), "/spire/server", address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_cas_place_ends_a_process_that_never_had_an_identity() {
    let rig = Rig::new(3600).await;
    let member = FakeCa::start_as(&rig.authority, "/workload", "127.0.0.1:0").await;
    for (bundle, address) in [(&Authority::new().pem, rig.ca.address), (&rig.authority.pem, member.address)] {
        let config = config(rig.dir.path(), &address.to_string(), bundle, TOKEN);
        let node = Running::start(config).await;
        let ended = timeout(Duration::from_secs(20), node.task).await.expect("it gives up").unwrap();
        assert!(ended.unwrap_err().is_stranger());
    }
    assert!(rig.ca.known.borrow().attested.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_cas_place_is_borne_by_a_process_with_an_identity() {
    let rig = Rig::new(4).await;
    let mut node = Running::start(rig.config(TOKEN)).await;
    node.identity().await;
    let address = rig.ca.address.to_string();
    let Rig { ca, authority, dir } = rig;
    drop(ca);
    let stranger = stranger_at(&address).await;
    // Half of its life, and then its end, pass with nobody else to ask.
    node.without_identity().await;
    assert!(!node.task.is_finished());
    drop(stranger);
    while std::net::TcpListener::bind(&address).is_err() {
        tokio::task::yield_now().await;
    }
    let again = FakeCa::start_as(&authority, "/spire/server", &address).await;
    again.known.send_modify(|known| known.life = 3600);
    std::fs::write(dir.path().join("token"), "second").unwrap();
    again.known.send_if_modified(|known| known.tokens.insert("second".into()));
    let identity = node.identity().await;
    node.stop().await;
    // After a restart the saved SVID is identity enough.
    drop(again);
    let _stranger = stranger_at(&address).await;
    let mut node = Running::start(config(dir.path(), &address, &authority.pem, TOKEN)).await;
    assert_eq!(node.identity().await.chain, identity.chain);
    assert!(!node.task.is_finished());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_beside_an_address_that_is_away_is_no_reason_to_give_up() {
    let rig = Rig::new(3600).await;
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let stranger = X509Bundle::from_pem(domain.clone(), &Authority::new().pem).unwrap();
    let (away, there) = ("127.0.0.1:1".to_owned(), rig.ca.address.to_string());
    for addresses in [vec![away.clone(), there.clone()], vec![there, away]] {
        let dialer = Dialer::new(&domain, addresses, stranger.clone()).unwrap();
        assert!(matches!(dialer.pinned().await.err(), Some(DialError::Unreachable { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_of_the_trust_domain_is_not_the_ca() {
    let rig = Rig::new(3600).await;
    for path in ["/workload", "/spire/server/x", "/spire/agent/tpm/x"] {
        let impostor = FakeCa::start_as(&rig.authority, path, "127.0.0.1:0").await;
        let domain = TrustDomain::new(DOMAIN).unwrap();
        let dialer = Dialer::new(&domain, vec![impostor.address.to_string()], rig.bundle()).unwrap();
        assert!(matches!(dialer.pinned().await.err(), Some(DialError::Other { .. })), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_address_is_tried_where_the_first_does_not_answer() {
    let rig = Rig::new(3600).await;
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let addresses = vec!["127.0.0.1:1".into(), rig.ca.address.to_string()];
    let dialer = Dialer::new(&domain, addresses, rig.bundle()).unwrap();
    dialer.pinned().await.unwrap();
    let nobody = Dialer::new(&domain, vec!["127.0.0.1:1".into()], rig.bundle()).unwrap();
    assert!(matches!(nobody.pinned().await.err(), Some(DialError::Unreachable { .. })));
}
