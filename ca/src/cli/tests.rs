use chancery_core::{
    class::{Class, ClassName, NodeProof},
    detect::{Detector, Evidence, Verdict},
    instance::{HoldSpan, Instance, Standing},
    node::CertRef,
};
use chancery_proto::{chancery::admin::v1 as admin, spire::api::types};
use chancery_sdk::{id::SpiffeId, origin::Origin};
use clap::CommandFactory;
use serde_json::json;

use super::*;
use crate::{
    sample,
    store::{BeginInstance, Fact, Propose},
};

fn entry() -> types::Entry {
    types::Entry {
        id: "e1".into(),
        spiffe_id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/db".into() }),
        parent_id: Some(types::Spiffeid { trust_domain: "td".into(), path: "/spire/server".into() }),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1000".into() }],
        created_at: 1_700_000_000,
        ..types::Entry::default()
    }
}

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn entry_is_written_as_protojson_writes_it() {
    let want = concat!(
        r#"{"admin":false,"created_at":"1700000000","dns_names":[],"downstream":false,"expires_at":"0","#,
        r#""federates_with":[],"hint":"","id":"e1","jwt_svid_ttl":0,"parent_id":{"path":"/spire/server","trust_domain":"td"},"#,
        r#""revision_number":"0","selectors":[{"type":"unix","value":"uid:1000"}],"#,
        r#""spiffe_id":{"path":"/db","trust_domain":"td"},"store_svid":false,"x509_svid_ttl":0}"#
    );
    assert_eq!(json::entry(&entry()).to_string(), want);
}

#[test]
fn entry_lists_are_one_merged_message() {
    let text = json::entries(&[entry(), entry()]).to_string();
    assert!(text.starts_with(r#"{"entries":[{"admin""#) && text.ends_with(r#"],"next_page_token":""}"#), "{text}");
}

#[test]
fn instances_have_the_contracts_form() {
    let mut instance = admin::Instance {
        id: "spiffe://td/agent/a/0190".into(),
        class_name: "a".into(),
        node_id: "spiffe://td/spire/agent/tpm/aa".into(),
        standing: "good".into(),
        begun_at: 1_700_000_000,
        ..admin::Instance::default()
    };
    let running = json::instances(std::slice::from_ref(&instance)).to_string();
    let want = concat!(
        r#"{"instances":[{"begun_at":"2023-11-14T22:13:20Z","class":"a","ended_at":null,"held_until":null,"id":"spiffe://td/agent/a/0190","#,
        r#""node_id":"spiffe://td/spire/agent/tpm/aa","standing":"good"}]}"#
    );
    assert_eq!(running, want);
    instance.held_until = 1_700_000_030;
    let held = json::instances(std::slice::from_ref(&instance));
    assert_eq!(
        (&held["instances"][0]["standing"], &held["instances"][0]["held_until"]),
        (&"good".into(), &"2023-11-14T22:13:50Z".into())
    );
    (instance.standing, instance.ended_at) = ("ended".into(), 1_700_000_060);
    let ended = json::instances(&[instance]);
    assert_eq!(ended["instances"][0]["ended_at"], "2023-11-14T22:14:20Z");
}

#[test]
fn entry_block_has_spires_labels() {
    let want = "\
Entry ID                : e1
SPIFFE ID               : spiffe://td/db
Parent ID               : spiffe://td/spire/server
Revision                : 0
X509-SVID TTL           : default
JWT-SVID TTL            : default
Selector                : unix:uid:1000

";
    assert_eq!(pretty::entry(&entry()), want);
}

#[test]
fn lifetimes_are_read_with_units_or_as_seconds() {
    for (text, want) in [("600", 600), ("10m", 600), ("1h30m", 5400), ("1500ms", 2), ("0", 0)] {
        assert_eq!(value::ttl(text), Ok(want), "{text}");
    }
    for bad in ["", "-5", "1 hour", "99999999999d"] {
        assert!(value::ttl(bad).is_err(), "{bad}");
    }
}

#[test]
fn usage_and_refusal_have_exit_codes_of_their_own() {
    assert_eq!(Failure::usage("x").exit_code(), 2);
    assert_eq!(Failure::refused("x".into()).exit_code(), 1);
    let usage = Cli::try_parse_from(["chancery-ca", "entry", "create", "--colour", "red"]).unwrap_err();
    assert_eq!(usage.exit_code(), 2);
    let without_socket = Cli::try_parse_from(["chancery-ca", "entry", "list"]).unwrap();
    assert_eq!(socket(&without_socket.common).unwrap(), PathBuf::from(DEFAULT_SOCKET));
}

#[test]
fn contracts_command_lines_parse() {
    for line in [
        "entry create --parent-id spiffe://td/x --spiffe-id spiffe://td/y --selector unix:uid:1 --selector unix:gid:2 \
         --x509-svid-ttl 1h --jwt-svid-ttl 5m --dns-name a --federates-with other --admin --downstream --hint h",
        "class create --parent-id spiffe://td/x --name finance/refund-agent --selector unix:uid:1 --x509-svid-ttl 15m \
         --allow-unproven-nodes",
        "class update a --allow-unproven-nodes=false",
        "instance list --output JSON",
        "instance show spiffe://td/agent/a/b",
        "instance end spiffe://td/agent/a/b",
        "node enrol --ek file.pem",
        "node enrol --key file.pem",
        "node ban spiffe://td/spire/agent/tpm/a",
        "anchor import anchor.pem --manufacturer id:00001014",
        "policy explain spiffe://td/spire/agent/tpm/a",
        "policy learn spiffe://td/spire/agent/tpm/a --name prod",
        "policy reload",
        "bundle show --format spiffe",
        "bundle set --trust-domain other --path file",
        "bundle delete --trust-domain spiffe://other --mode dissociate",
        "token generate --spiffe-id spiffe://td/x --ttl 10m",
        "x509 mint --spiffe-id spiffe://td/x --write dir",
        "jwt mint --spiffe-id spiffe://td/x --audience a",
        "audit list --after 5 --follow",
        "revoke --instance spiffe://td/agent/a/b --reason r",
        "revoke --class a --reason r --output json",
        "revoke --entry e --reason r",
        "revoke --node spiffe://td/spire/agent/tpm/a --all-under --reason r",
        "revoke --sha256 ab --reason r",
        "class reopen spiffe://td/spire/agent/tpm/a finance/refund-agent --reason r",
        "class reopen * a --reason r",
        "revocation list",
        "hold place --instance spiffe://td/agent/a/b --for 10m --reason r",
        "hold place --instance spiffe://td/agent/a/b --reason r --output json",
        "hold release --instance spiffe://td/agent/a/b --reason r",
        "hold list",
        "proposal list --open --output json",
        "proposal review 4711 --verdict false-alarm --reason r",
        "proposal review 5000000000 --verdict false-alarm --reason r",
        "proposal review 1/4711 --verdict incident --began 2026-01-31T10:00:00Z --reason r",
        "trace spiffe://td/agent/a/b --config f",
        "trace spiffe://td/spire/agent/tpm/a --since-quote --config f --output json",
        "trace spiffe://td/spire/agent/tpm/a --pid 4711 --bundle b.json --config f",
        "healthcheck --socket /run/x.sock",
        "run --config f",
        "migrate --config f",
    ] {
        let words = std::iter::once("chancery-ca").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn a_revocation_names_one_thing_and_a_reason() {
    for line in [
        "revoke --reason r",
        "revoke --instance spiffe://td/agent/a/b",
        "revoke --class a --entry e --reason r",
        "revoke --instance agent --reason r",
        "class reopen a --reason r",
        "hold place --instance spiffe://td/agent/a/b --for 10m",
        "hold place --reason r",
        "proposal review 4711 --verdict incident",
        "proposal review 4711 --verdict revoke --reason r",
        "proposal review x --verdict incident --reason r",
        "proposal review 1/-1 --verdict incident --reason r",
        "hold release --instance spiffe://td/agent/a/b",
    ] {
        let words = std::iter::once("chancery-ca").chain(line.split_whitespace());
        assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn what_a_revocation_hit_is_said_with_its_end() {
    let closed = admin::Closure { class_name: "a".into(), node_id: "*".into(), ..admin::Closure::default() };
    let mut done = admin::RevokeResponse {
        spiffe_id: String::new(),
        instances: 2,
        certificates: 3,
        token_ids: 1,
        until: 1_700_000_000,
        closed: vec![closed],
        connections: 0,
    };
    let want = "\
Revoked: 2 instances, 3 X509-SVIDs, JWT-SVIDs of 1 further IDs
Peers that follow the list refuse from now on; whoever has no list may accept until 2023-11-14T22:13:20Z.
Closed: class a on every node, until `class reopen`
";
    assert_eq!(pretty::revoked(&done), want);
    assert_eq!(json::revoked(&done)["until"], "1700000000");
    (done.until, done.closed) = (0, Vec::new());
    assert!(pretty::revoked(&done).ends_with("Nothing that was issued is valid any more.\n"));
}

#[test]
fn a_key_hash_is_taken_as_digits_or_from_a_certificate_or_key() {
    let hash = "AB".repeat(32);
    assert_eq!(files::key_hash(&hash, "--ek").unwrap(), hash.to_lowercase());
    assert_eq!(files::key_hash("/nonexistent", "--ek").unwrap_err().exit_code(), 2);
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let want =
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key)));
    for (name, content) in [
        ("ek.pem", certificate.pem().into_bytes()),
        ("ek.der", certificate.der().to_vec()),
        ("key.pem", key.public_key_pem().into_bytes()),
        ("key.der", rcgen::PublicKeyData::subject_public_key_info(&key)),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        assert_eq!(files::key_hash(path.to_str().unwrap(), "--ek").unwrap(), want, "{name}");
    }
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "no certificate").unwrap();
    assert_eq!(files::key_hash(text.to_str().unwrap(), "--ek").unwrap_err().exit_code(), 1);
}

/// A running instance of a node, as a detector sees it.
async fn run_of(state: &crate::State) -> SpiffeId {
    let node = sample::admit(state, "n1", "01").await;
    let name: ClassName = "agents".parse().unwrap();
    let class = Class {
        name: name.clone(),
        parent_id: node.id.clone(),
        selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
        x509_svid_ttl: 0,
        node_proof: NodeProof::AnyNode,
        revision: 0,
        created_at: state.now(),
    };
    state.commit(Fact::CreateClass(class)).await.unwrap().done().unwrap();
    let id: SpiffeId =
        format!("{}/agent/agents/01890a5d-ac96-774b-bcce-000000000001", sample::domain().id()).parse().unwrap();
    let instance = Instance {
        id: id.clone(),
        class: name,
        node_id: node.id,
        start_token: [1; 32],
        standing: Standing::Good,
        begun_at: state.now(),
        ended_at: None,
        end_reason: String::new(),
        newest: CertRef { serial: "61".into(), expires_at: state.now().plus(600) },
        held_until: None,
    };
    let fact = BeginInstance {
        instance,
        spki_sha256: [1; 32],
        node_serial: "01".into(),
        class_revision: 0,
        max_live: 256,
        pid_proof: "peer-pidfd".into(),
        facts: Default::default(),
        origin: Origin::NONE,
        authority: state.authority.x509_id().unwrap(),
    };
    state.commit(Fact::BeginInstance(fact)).await.unwrap().done().unwrap();
    id
}

/// Over the admin socket, as people do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_is_listed_with_what_to_do_and_reviewed_once() {
    let dir = tempfile::tempdir().unwrap();
    let ca = sample::running(dir.path()).await;
    let state = &ca.state;
    let instance = run_of(state).await;
    let (first, last) = (state.now().plus(-60), state.now());
    let places = ["192.0.2.1", "192.0.2.9"].map(|place| place.parse().unwrap()).into();
    let evidence = Evidence { count: 3, first, last, places };
    let hold = HoldSpan::new(60).ok();
    let fact = Propose { instance: instance.clone(), detector: Detector::TwoPlaces, evidence, hold };
    let number = state.commit(Fact::Propose(fact)).await.unwrap().done().unwrap();
    let client = Client::connect(&state.config.admin_socket).await.unwrap();
    let list = async |open| proposal::run(&client, proposal::ProposalCommand::List { open }).await.unwrap();
    let review = async |number| {
        let (verdict, reason, began) = (Verdict::Incident, "key copied".to_owned(), Some(first.0 - 60));
        let which = (None, number);
        proposal::run(&client, proposal::ProposalCommand::Review { which, verdict, reason, began }).await
    };
    let shown = list(true).await;
    for word in [
        format!("Proposal          : {number}\n"),
        "192.0.2.1, 192.0.2.9".into(),
        "none: detectors hold 0 of 1 running instances".into(),
        format!("revoke --instance {instance}"),
        format!("proposal review {number} --verdict incident|false-alarm"),
    ] {
        assert!(shown.pretty.contains(&word), "{word}: {}", shown.pretty);
    }
    let one = &shown.json["proposals"][0];
    assert_eq!(
        (&one["evidence"]["count"], &one["hold"], &one["reviewed_at"]),
        (&3.into(), &"capped".into(), &"0".into())
    );
    let nobody = review(number + 1000).await.unwrap_err();
    assert!(nobody.to_string().contains("proposal list --open"), "{nobody}");
    review(number).await.unwrap();
    assert!(review(number).await.unwrap_err().to_string().contains("reviewed before"));
    assert_eq!(list(true).await.json["proposals"], json!([]));
    let all = list(false).await;
    assert_eq!(all.json["proposals"][0]["began_at"], (first.0 - 60).to_string());
    assert!(all.pretty.contains("Verdict           : incident: key copied"), "{}", all.pretty);
    state.shutdown.begin();
    ca.stopped().await.unwrap();
}
