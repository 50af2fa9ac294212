//! Valid facts; each test changes one thing.

use std::collections::BTreeMap;

use chancery_ca::store::*;
use chancery_core::{
    class::{Class, ClassName, NodeProof},
    entry::{Entry, Rights},
    evidence::Step,
    instance::{self, Instance},
    node::{BootState, CertRef, Node, Standing, TpmBinding},
    selector::Selectors,
};
use chancery_daemon::key_type::KeyType;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
    time::UnixTime,
};

/// The active X.509 authority of every bench.
pub(crate) const X509: &str = "aa01";
/// The active JWT authority of every bench.
pub(crate) const JWT: &str = "kid1";

pub(crate) fn now() -> UnixTime {
    chancery_daemon::clock::now()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap()
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

pub(crate) fn selectors(list: &[&str]) -> Selectors {
    list.iter().map(|s| s.parse().unwrap()).collect()
}

pub(crate) fn cert(serial: &str) -> CertRef {
    CertRef { serial: serial.into(), expires_at: now().plus(3600) }
}

pub(crate) fn authority(id: &str) -> Authority {
    Authority {
        id: id.into(),
        kind: AuthorityKind::X509,
        server: "test".into(),
        state: AuthorityState::Prepared,
        public: vec![1, 2, 3],
        not_before: UnixTime(100),
        not_after: UnixTime(200),
        label: format!("key-{id}"),
        chain: Vec::new(),
        upstream_id: String::new(),
        published_at: UnixTime(110),
        tainted_at: None,
    }
}

/// The plan of the key of `authority(id)`.
pub(crate) fn plan(id: &str, kind: AuthorityKind) -> PlanKey {
    PlanKey { label: format!("key-{id}"), kind, server: "test".into(), key_type: KeyType::EcP256 }
}

pub(crate) fn step(id: &str, version: i64, step: KeyStep) -> MoveKey {
    MoveKey { label: format!("key-{id}"), version, step }
}

/// What the key store answers for the key of `authority(id)`.
pub(crate) fn recorded(id: &str) -> KeyStep {
    KeyStep::Record { spki: format!("spki of {id}").into_bytes() }
}

pub(crate) fn entry(name: &str) -> Entry {
    Entry {
        id: name.into(),
        spiffe_id: id(&format!("/service/{name}")),
        parent_id: id("/spire/agent/tpm/n1"),
        selectors: selectors(&["unix:uid:1000", "unix:gid:7"]),
        x509_svid_ttl: 60,
        jwt_svid_ttl: 0,
        federates_with: vec![],
        rights: Rights { admin: true, downstream: false },
        expires_at: None,
        dns_names: vec!["b.example.org".into(), "a.example.org".into()],
        hint: "h\u{e9}\n\"int".into(),
        store_svid: false,
        disable_x509_svid_prefetch: true,
        jwt_svid_include_jti: false,
        revision: 0,
        created_at: UnixTime(1000),
    }
}

pub(crate) fn class(name: &str) -> Class {
    Class {
        name: ClassName::new(name).unwrap(),
        parent_id: id("/spire/agent/tpm/n1"),
        selectors: selectors(&["unix:uid:1000"]),
        x509_svid_ttl: 0,
        node_proof: NodeProof::AnyNode,
        revision: 0,
        created_at: UnixTime(1000),
    }
}

pub(crate) fn node_id(n: u8) -> SpiffeId {
    id(&format!("/spire/agent/tpm/n{n}"))
}

/// Node `n`; its first serial is `<n>0`.
pub(crate) fn node(n: u8) -> Node {
    let boot = BootState {
        reset_count: 7,
        restart_count: 1,
        clock: u64::MAX,
        safe: true,
        firmware_version: u64::MAX - 1,
        pcrs: BTreeMap::from([(0, [1; 32]), (7, [2; 32])]),
        log_digest: Some([3; 32]),
    };
    Node {
        id: node_id(n),
        attestation_type: "tpm".into(),
        standing: Standing::Good,
        reason: String::new(),
        current: None,
        fresh: None,
        selectors: selectors(&["tpm:enrolled:yes"]),
        can_reattest: true,
        agent_version: String::new(),
        attested_at: UnixTime(5000),
        version: 0,
        boot: vec![],
        tpm: Some(TpmBinding {
            ek_hash: [n; 32],
            ak_name: vec![0, 11, n],
            activated_at: UnixTime(4000),
            before: Some(BootState { clock: 9, ..boot.clone() }),
            boot,
        }),
        pkcs11: None,
    }
}

pub(crate) fn admission(n: u8) -> AdmitNode {
    AdmitNode {
        node: node(n),
        cert: cert(&format!("{n}0")),
        authority: X509.into(),
        expected_version: None,
        spend_token: None,
        require_enrolled: false,
        require_key_enrolled: false,
        svid_key: [n ^ 0xff; 32],
        ends_instances: false,
        steps: vec![Step { name: "quote.nonce", passed: true, detail: String::new() }],
        evidence: Some(vec![9, 9]),
        kept: None,
        source: "192.0.2.1".into(),
    }
}

/// A join-token node without a TPM.
pub(crate) fn token_admission(hash: &str) -> AdmitNode {
    let mut fact = admission(9);
    fact.node.id = id(&format!("/spire/agent/join_token/{hash}"));
    fact.node.attestation_type = "join_token".into();
    fact.node.tpm = None;
    fact.node.can_reattest = false;
    fact.spend_token = Some(hash.into());
    fact
}

/// Run `run` (process and key of its own) of class `a` on node `n`, which came with its first serial.
pub(crate) fn begin(n: u8, run: u8) -> BeginInstance {
    let uuid = format!("01890a5d-ac96-774b-bcce-b302099a8{run:03x}");
    BeginInstance {
        instance: Instance {
            id: id(&format!("/agent/a/{uuid}")),
            class: ClassName::new("a").unwrap(),
            node_id: node_id(n),
            start_token: [run; 32],
            standing: instance::Standing::Good,
            begun_at: UnixTime(6000),
            ended_at: None,
            end_reason: String::new(),
            newest: CertRef { serial: format!("7{run}"), expires_at: now().plus(900) },
            held_until: None,
        },
        spki_sha256: [run; 32],
        node_serial: format!("{n}0"),
        class_revision: 0,
        max_live: 256,
        pid_proof: "peer-pidfd".into(),
        facts: BTreeMap::from([("path", "/usr/bin/agent".to_string()), ("uid", "1000".to_string())]),
        origin: Origin::NONE,
        authority: X509.into(),
    }
}

/// A renewal of that run, with a new key.
pub(crate) fn renewal(n: u8, run: u8) -> RenewInstance {
    let begun = begin(n, run);
    RenewInstance {
        id: begun.instance.id,
        node_id: node_id(n),
        start_token: [run; 32],
        spki_sha256: [run + 100; 32],
        key: RenewalKey::New,
        cert: cert(&format!("8{run}")),
        node_serial: begun.node_serial,
        authority: X509.into(),
    }
}

pub(crate) fn end(n: u8, run: u8) -> EndInstance {
    EndInstance { id: begin(n, run).instance.id, node_id: Some(node_id(n)), reason: "process-ended" }
}

pub(crate) fn reconcile(n: u8, boot: u8, alive: &[u8]) -> Reconcile {
    Reconcile {
        node_id: node_id(n),
        node_serial: format!("{n}0"),
        boot: vec![boot],
        live_start_tokens: alive.iter().map(|run| [*run; 32]).collect(),
    }
}

pub(crate) fn svid(n: u8, entry: &str) -> RecordX509 {
    RecordX509 {
        node_id: node_id(n),
        node_serial: format!("{n}0"),
        entry_id: entry.into(),
        entry_revision: 0,
        cert: cert("99"),
        authority: X509.into(),
    }
}

pub(crate) fn jwt(n: u8, subject: JwtSubject) -> RecordJwt {
    RecordJwt {
        node_id: node_id(n),
        node_serial: format!("{n}0"),
        subject,
        audience: vec!["aud".into()],
        expires_at: now().plus(300),
        origin: Origin::NONE,
        authority: JWT.into(),
    }
}

pub(crate) fn bundle(name: &str, mode: SetMode) -> SetFederatedBundle {
    SetFederatedBundle { trust_domain: domain(name), json: b"{\"keys\":[]}".to_vec(), mode }
}
