//! A server below another of the same trust domain, each with nodes: what either issues holds at both.

use std::time::{Duration, Instant};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    source::Source,
    tls::{Allow, H2, system_clock},
    x509,
};
use chancery_tests::{
    playground::{Attest, Upstream},
    process::until,
};
use tokio::{io::duplex, runtime::Runtime};

use crate::support::{SOON, Stage, stage, verify_everywhere};

/// Lives of SVIDs below. What a tainted authority signed is replaced within a quarter of it.
const LIFE: &str = "40s";
/// Time for that, and a loaded machine; by itself nothing is renewed before 45 % of a life.
const ROTATED: Duration = Duration::from_secs(15);

/// Above is node 1 of the upper server: its node 0 is the lower server's own.
struct Agents {
    above: Source,
    below: Source,
    runtime: Runtime,
}

#[test]
fn what_servers_above_and_below_issue_holds_at_both_through_a_taint_below_and_a_death_above() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut above = stage(Attest::JoinToken, |o| o.nodes = 2);
    let below = stage_below(&above, &runtime);
    above.entry_for_us(1, "/above");
    below.entry_for_us(0, "/below");
    let (source_above, source_below) = runtime.block_on(async { (above.source(1).await, below.source(0).await) });
    let agents = Agents { above: source_above, below: source_below, runtime };

    assert_eq!(agents.above.svid().unwrap().chain().len(), 1, "the root signs it");
    assert_eq!(agents.below.svid().unwrap().chain().len(), 2, "with the authority that the root signed");
    assert_eq!(roots(&agents.below), roots(&agents.above), "one trust domain, one set of roots");
    agents.meet();
    // First of all: nothing is to be renewed by itself meanwhile.
    tainted_below(&below, &agents);
    until(SOON, || agents.tokens("ledger")).unwrap();
    dies_above(&mut above, &below, &agents);
}

/// A server below `above`, with a node.
fn stage_below(above: &Stage, runtime: &Runtime) -> Stage {
    above.entry_with(0, "/server/below", &["--downstream"]);
    // Once the node has the identity: a server without any authority yet waits 5 s for it.
    drop(runtime.block_on(above.source(0)));
    let (server, workload_socket) =
        (above.playground.authority.grpc, above.playground.machines[0].workload_socket.clone());
    stage(Attest::JoinToken, |o| {
        o.upstream = Some(Upstream { server, workload_socket });
        let lives = &mut o.lifetimes;
        for ttl in [&mut lives.instance_ttl, &mut lives.x509_ttl, &mut lives.node_ttl, &mut lives.jwt_ttl] {
            *ttl = Some(LIFE.into());
        }
        (lives.ca_ttl, lives.publish_delay) = (Some("1h".into()), Some("2s".into()));
    })
}

/// The authority below is tainted; everything under it rotates, and holds above all the time.
fn tainted_below(below: &Stage, agents: &Agents) {
    let signer = |source: &Source| x509::authority_key_id(source.svid().unwrap().leaf()).map(hex::encode).unwrap();
    let node = below.node_serials();
    let before = signer(&agents.below);
    let old = below.tainted_after_a_successor_signs("x509");
    assert_eq!(before, old, "the authority that is tainted signed the agent's SVID");
    let begun = Instant::now();
    let rotated = until(ROTATED, || {
        verify_everywhere(&[agents.above.clone(), agents.below.clone()]);
        if signer(&agents.below) == old {
            return Err("the agent's SVID".to_owned());
        }
        if below.node_serials() == node { Err("the node's SVID".to_owned()) } else { Ok(()) }
    });
    rotated.unwrap_or_else(|left| panic!("still under the tainted authority after {ROTATED:?}: {left}"));
    agents.meet();
    println!("everything below rotated within {:?} of the taint, none failed to verify above", begun.elapsed());
}

/// The server above is killed: below goes on and says what it lacks, until that one is back.
fn dies_above(above: &mut Stage, below: &Stage, agents: &Agents) {
    assert_eq!(needs(below), "");
    above.playground.authority.process().kill();
    let noticed = until(SOON, || match needs(below) {
        told if told.is_empty() => Err("the server below has not noticed that the one above is away".to_owned()),
        told => Ok(told),
    });
    let (told, server) = (noticed.unwrap(), above.playground.authority.grpc.to_string());
    assert!(told.contains(&server), "{told}");
    let refused = below.playground.ca(&["authority", "prepare", "x509"]).unwrap_err();
    assert!(refused.contains(&server), "{refused}");

    let id = SpiffeId::parse(&below.entry_for_us(0, "/made-meanwhile")).unwrap();
    let made = until(SOON, || agents.below.svids().into_iter().find(|svid| *svid.id() == id).ok_or(format!("no {id}")));
    let now = system_clock()();
    x509::verify(made.unwrap().chain(), &agents.above.bundles(), now).unwrap();
    agents.runtime.block_on(validated(&agents.below, &agents.above, "signed meanwhile")).unwrap();
    agents.meet();

    above.playground.authority.restart().unwrap();
    until(SOON, || match needs(below) {
        told if told.is_empty() => Ok(()),
        told => Err(told),
    })
    .unwrap();
    below.ca(&["authority", "prepare", "x509"]);
    until(SOON, || agents.tokens("signed afterwards")).unwrap();
    agents.meet();
}

/// What a server that serves will need; empty where all is well.
fn needs(stage: &Stage) -> String {
    let health = stage.ca_json(&["healthcheck"]);
    assert_eq!(health["status"], "SERVING");
    health["needs"].as_str().unwrap_or_default().to_owned()
}

fn roots(source: &Source) -> Vec<Vec<u8>> {
    let domain = TrustDomain::new("playground.test").unwrap();
    let bundles = source.bundles();
    bundles.get(&domain).unwrap().authorities().iter().map(|der| der.to_vec()).collect()
}

impl Agents {
    /// Each verifies the other's SVID, and they shake hands in both directions.
    fn meet(&self) {
        verify_everywhere(&[self.above.clone(), self.below.clone()]);
        self.runtime.block_on(async {
            shake_hands(&self.above, &self.below).await;
            shake_hands(&self.below, &self.above).await;
        });
    }

    /// A token of each is validated by the Workload API of the other, for this audience and for no other.
    fn tokens(&self, audience: &str) -> Result<(), String> {
        self.runtime.block_on(async {
            validated(&self.below, &self.above, audience).await?;
            validated(&self.above, &self.below, audience).await
        })
    }
}

async fn shake_hands(server: &Source, client: &Source) {
    let (at_server, at_client) = (server.svid().unwrap().id().clone(), client.svid().unwrap().id().clone());
    let (near, far) = duplex(1 << 16);
    let acceptor = server.acceptor(Allow::id(&at_client), &[H2]).unwrap();
    let connector = client.connector(Allow::id(&at_server), &[H2]).unwrap();
    let (accepted, connected) = tokio::join!(acceptor.accept(near), connector.connect(far));
    assert_eq!(*accepted.unwrap().peer().id(), at_client);
    assert_eq!(*connected.unwrap().peer().id(), at_server);
}

async fn validated(holder: &Source, verifier: &Source, audience: &str) -> Result<(), String> {
    let token = holder.jwt(audience).await.map_err(|e| e.to_string())?;
    let valid = verifier.validate_jwt(audience, token.token()).await;
    let valid = valid.map_err(|e| format!("token of {}: {e}", token.id()))?;
    assert_eq!(valid.id, *token.id());
    assert!(verifier.validate_jwt("somebody else", token.token()).await.is_err());
    Ok(())
}
