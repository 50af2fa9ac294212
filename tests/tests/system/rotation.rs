//! The CA's authorities rotate under load: no SVID ever fails to verify, on its own node or on another.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chancery_sdk::{
    tls::system_clock,
    workload::{Endpoint, WorkloadClient},
    x509,
};
use chancery_tests::playground::Attest;

use crate::support::{Stage, stage};

/// Rotations of both authorities without `CHANCERY_ROTATIONS`.
const ROTATIONS: usize = 1;
/// Time for one; with a life of 144 s (six times a node SVID's) the next authority signs well within it.
const ONE_ROTATION: Duration = Duration::from_secs(150);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

#[test]
fn no_svid_fails_to_verify_while_authorities_rotate() {
    let rotations = std::env::var("CHANCERY_ROTATIONS").map_or(ROTATIONS, |text| text.parse().unwrap());
    let stage = stage(Attest::JoinToken, |o| {
        o.nodes = 2;
        let ten = Some("10s".to_owned());
        let lives = &mut o.lifetimes;
        (lives.instance_ttl, lives.x509_ttl) = (ten.clone(), ten.clone());
        // Renewed at half its life, a node SVID always leaves the 10 s that a credential needs at least.
        (lives.node_ttl, lives.jwt_ttl) = (Some("24s".into()), ten);
        (lives.ca_ttl, lives.publish_delay) = (Some("144s".into()), Some("5s".into()));
    });
    for node in 0..2 {
        stage.entry_for_us(node, &format!("/on-node-{node}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(watch(&stage, rotations));
}

async fn watch(stage: &Stage, rotations: usize) {
    let sources = [stage.source(0).await, stage.source(1).await];
    let (mut x509_issuers, mut jwt_issuers) = (BTreeSet::new(), BTreeSet::new());
    let (mut chains, mut tokens, mut serials) = (0_u64, 0_u64, BTreeSet::new());
    let end = Instant::now() + ONE_ROTATION * u32::try_from(rotations).unwrap();
    while x509_issuers.len() <= rotations || jwt_issuers.len() <= rotations {
        assert!(Instant::now() < end, "{} X.509 and {} JWT issuers seen", x509_issuers.len(), jwt_issuers.len());
        for (holder, verifier) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let svid = sources[holder].svid().unwrap();
            let peer = x509::verify(svid.chain(), &sources[verifier].bundles(), system_clock()());
            let peer = peer.unwrap_or_else(|e| panic!("SVID of node {holder} by the bundle of node {verifier}: {e}"));
            x509_issuers.insert(issuer(svid.leaf()));
            serials.insert(peer.serial_decimal);
            chains += 1;

            let token = sources[holder].jwt("ledger").await.unwrap();
            let verified = sources[verifier].validate_jwt_locally("ledger", token.token());
            verified.unwrap_or_else(|e| panic!("token of node {holder} by the bundle of node {verifier}: {e}"));
            jwt_issuers.insert(key_id(token.token()));
            tokens += 1;
        }
        fresh_client_verifies(stage).await;
        tokio::time::sleep(LOOK).await;
    }
    println!(
        "{} X.509 and {} JWT authorities: {chains} chains ({} serials) and {tokens} tokens verified, none failed",
        x509_issuers.len(),
        jwt_issuers.len(),
        serials.len()
    );
}

/// Somebody who connects just now gets an SVID and the bundle that verifies it in one answer.
async fn fresh_client_verifies(stage: &Stage) {
    let endpoint = Endpoint::unix(&stage.playground.machines[0].workload_socket).unwrap();
    let context = WorkloadClient::connect(&endpoint).fetch_x509().await.unwrap();
    x509::verify(context.default_svid().chain(), &context.bundles, system_clock()()).unwrap();
}

/// The authority key that signed a leaf.
fn issuer(leaf: &[u8]) -> String {
    use x509_parser::{extensions::ParsedExtension, prelude::FromDer, prelude::X509Certificate};
    let (_, certificate) = X509Certificate::from_der(leaf).unwrap();
    let key = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| hex::encode(id.0)),
        _ => None,
    });
    key.expect("every leaf names its issuer's key")
}

/// `kid` of a token's header.
fn key_id(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
