use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    entry::samples::{domain, id, selectors},
    node::CertRef,
};

const NOW: UnixTime = UnixTime(1_000_000);
const TOKEN: [u8; 32] = [7; 32];

fn node() -> Node {
    Node {
        id: id("/spire/agent/tpm/aa"),
        attestation_type: "tpm".into(),
        standing: node::Standing::Good,
        reason: String::new(),
        current: None,
        fresh: None,
        selectors: selectors(&["tpm:enrolled:yes"]),
        can_reattest: true,
        agent_version: String::new(),
        attested_at: NOW,
        version: 1,
        boot: Vec::new(),
        tpm: None,
        pkcs11: None,
    }
}

fn class(name: &str, list: &[&str]) -> Class {
    Class {
        name: ClassName::new(name).unwrap(),
        parent_id: id("/spire/agent/tpm/aa"),
        selectors: selectors(list),
        x509_svid_ttl: 60,
        node_proof: NodeProof::Hardware,
        revision: 0,
        created_at: NOW,
    }
}

fn instance() -> Instance {
    Instance {
        id: id("/agent/refund/0190f5d2-0000-7000-8000-000000000000"),
        class: ClassName::new("refund").unwrap(),
        node_id: node().id,
        start_token: TOKEN,
        standing: Standing::Good,
        begun_at: NOW,
        ended_at: None,
        end_reason: String::new(),
        newest: CertRef { serial: "1".into(), expires_at: NOW },
        held_until: None,
    }
}

fn csr() -> Csr {
    let key = KeyPair::generate().unwrap();
    Csr::parse(CertificateParams::default().serialize_request(&key).unwrap().der()).unwrap()
}

fn issuance() -> Issuance {
    let limits = Limits { issuer: NOW.plus(86_400), node: Some(NOW.plus(3600)) };
    Issuance { profile: Profile::new(900, 3600).unwrap(), limits, serial: [1; 16], now: NOW }
}

/// Runs `begin` for class "refund" on valid facts, after `spoil` changed them.
fn begin_with(spoil: impl FnOnce(&mut World)) -> Result<(bool, Leaf), InstanceError> {
    let mut world = World {
        node: node(),
        classes: vec![class("refund", &["unix:uid:1"])],
        selectors: selectors(&["unix:uid:1", "unix:gid:1"]),
        known: None,
        same_key: false,
        live: 0,
        closed: Vec::new(),
        executable: false,
        issuance: issuance(),
    };
    spoil(&mut world);
    let classes: Vec<&Class> = world.classes.iter().collect();
    let facts = BeginFacts {
        domain: &domain(),
        node: &world.node,
        classes: &classes,
        asked: &ClassName::new("refund").unwrap(),
        selectors: &world.selectors,
        known: world.known.as_ref(),
        same_key: world.same_key,
        live: world.live,
        bars: Bars { closed: &world.closed, executable: world.executable },
    };
    begin(facts, &csr(), Uuid::from_u128(5), world.issuance).map(|begin| match begin {
        Begin::Again { leaf } => (false, leaf),
        Begin::New { leaf, .. } => (true, leaf),
    })
}

struct World {
    node: Node,
    classes: Vec<Class>,
    selectors: Selectors,
    known: Option<Instance>,
    same_key: bool,
    live: usize,
    closed: Vec<ClassName>,
    executable: bool,
    issuance: Issuance,
}

#[test]
fn matching_process_begins_as_a_new_instance() {
    let (new, leaf) = begin_with(|_| {}).unwrap();
    assert!(new);
    assert_eq!(leaf.id(), &id("/agent/refund/00000000-0000-0000-0000-000000000005"));
    assert_eq!(leaf.not_after(), NOW.plus(60));
}

#[test]
fn each_rule_refuses_its_own_fault() {
    let cases: &[(&str, fn(&mut World))] = &[
        ("banned node", |w| w.node.standing = node::Standing::Banned),
        ("failed node", |w| w.node.standing = node::Standing::Failed),
        ("no class", |w| w.classes.clear()),
        ("selectors do not match", |w| w.selectors = selectors(&["unix:uid:2"])),
        ("another class matches", |w| w.classes = vec![class("other", &["unix:uid:1"])]),
        ("two classes match", |w| w.classes.push(class("other", &["unix:gid:1"]))),
        ("join_token node", |w| w.node.attestation_type = "join_token".into()),
        ("pop-only token", |w| {
            w.node.attestation_type = "pkcs11".into();
            w.node.selectors = selectors(&["pkcs11:pop-only"]);
        }),
        ("256 live instances", |w| w.live = 256),
        ("257 selectors", |w| w.selectors.extend((0..256).map(|n| format!("a:{n}").parse().unwrap()))),
        ("node SVID at its end", |w| w.issuance.limits.node = Some(NOW.plus(9))),
        ("authority at its end", |w| w.issuance.limits.issuer = NOW.plus(9)),
        ("serial zero", |w| w.issuance.serial = [0; 16]),
        ("dead start token", |w| w.known = Some(Instance { standing: Standing::Ended, ..instance() })),
        ("revoked start token", |w| {
            w.known = Some(Instance { standing: Standing::Revoked, ..instance() });
            w.same_key = true;
        }),
    ];
    for (fault, spoil) in cases {
        assert!(begin_with(spoil).is_err(), "{fault}");
    }
}

#[test]
fn process_of_two_classes_is_refused_with_both_named() {
    let error = begin_with(|w| w.classes.push(class("other", &["unix:gid:1"]))).unwrap_err();
    assert_eq!(error, InstanceError::Ambiguous("refund, other".into()));
}

#[test]
fn unproven_node_begins_only_classes_that_allow_it() {
    let unproven = |proof: NodeProof| {
        begin_with(|w| {
            w.node.attestation_type = "join_token".into();
            w.classes[0].node_proof = proof;
        })
    };
    assert!(matches!(unproven(NodeProof::Hardware), Err(InstanceError::Unproven(_))));
    assert!(unproven(NodeProof::AnyNode).is_ok());
}

#[test]
fn hardware_is_proven_by_tpm_or_a_vouched_token() {
    for (kind, list, want) in [
        ("tpm", &[][..], true),
        ("join_token", &["pkcs11:device-cert"], false),
        ("pkcs11", &["pkcs11:pop-only"], false),
        ("pkcs11", &["pkcs11:device-cert"], true),
        ("pkcs11", &["pkcs11:attested:yubihsm"], true),
        ("pkcs11", &["unix:device-cert"], false),
    ] {
        let node = Node { attestation_type: kind.into(), selectors: selectors(list), ..node() };
        assert_eq!(is_hardware_proven(&node), want, "{kind} {list:?}");
    }
}

#[test]
fn begin_repeated_with_the_same_key_answers_the_same_instance() {
    let (new, leaf) = begin_with(|w| (w.known, w.same_key) = (Some(instance()), true)).unwrap();
    assert!(!new);
    assert_eq!(leaf.id(), &instance().id);
}

#[test]
fn begin_repeated_with_another_key_is_told_to_renew() {
    let error = begin_with(|w| w.known = Some(instance())).unwrap_err();
    assert_eq!(error, InstanceError::AlreadyBegun(instance().id));
}

#[test]
fn dead_process_stays_dead_after_its_class_is_gone() {
    let error = begin_with(|w| {
        w.classes.clear();
        w.known = Some(Instance { standing: Standing::Ended, ..instance() });
    });
    assert!(matches!(error, Err(InstanceError::Dead { .. })));
}

#[test]
fn instance_never_outlives_its_node() {
    let (_, leaf) = begin_with(|w| {
        w.classes[0].x509_svid_ttl = 0;
        w.issuance.limits.node = Some(NOW.plus(100));
    })
    .unwrap();
    assert_eq!(leaf.not_after(), NOW.plus(100));
}

#[test]
fn only_the_live_instance_of_this_node_and_process_renews() {
    let outcome =
        |instance: Option<&Instance>, token: [u8; 32]| renew(&node(), instance, &token, 0, &csr(), issuance());
    assert_eq!(outcome(Some(&instance()), TOKEN).unwrap().id(), &instance().id);
    assert_eq!(outcome(None, TOKEN), Err(InstanceError::NotYours));
    assert_eq!(outcome(Some(&instance()), [8; 32]), Err(InstanceError::NotYours));
    let foreign = Instance { node_id: id("/spire/agent/tpm/bb"), ..instance() };
    assert_eq!(outcome(Some(&foreign), TOKEN), Err(InstanceError::NotYours));
    let ended = Instance { standing: Standing::Ended, ..instance() };
    assert!(matches!(outcome(Some(&ended), TOKEN), Err(InstanceError::Dead { .. })));
}

#[test]
fn js_16_js_18_tokens_name_the_instance_and_need_an_audience() {
    let grant = jwt(&node(), Some(&instance()), &TOKEN, &["db".into()], issuance()).unwrap();
    assert_eq!((grant.id(), grant.audience()), (&instance().id, &["db".to_owned()][..]));
    assert_eq!(jwt(&node(), Some(&instance()), &TOKEN, &[], issuance()), Err(LeafError::NoAudience.into()));
}

#[test]
fn a_held_instance_is_given_nothing_until_the_second_its_hold_is_over() {
    let held = |secs| Instance { held_until: Some(NOW.plus(secs)), ..instance() };
    let outcomes = |instance: Instance| {
        let renewed = renew(&node(), Some(&instance), &TOKEN, 0, &csr(), issuance()).map(drop);
        let token = jwt(&node(), Some(&instance), &TOKEN, &["db".into()], issuance()).map(drop);
        let again = begin_with(|w| (w.known, w.same_key) = (Some(instance), true)).map(drop);
        [renewed, token, again]
    };
    let until = NOW.plus(1);
    for outcome in outcomes(held(1)) {
        let error = outcome.unwrap_err();
        assert_eq!(error, InstanceError::Held { id: instance().id, until });
        assert!(error.to_string().starts_with("INSTANCE_HELD: "));
    }
    assert!(outcomes(held(0)).iter().all(Result::is_ok));
}

#[test]
fn a_class_that_is_closed_on_the_node_does_not_begin() {
    let denied = begin_with(|world| world.closed = vec![ClassName::new("refund").unwrap()]).unwrap_err();
    assert_eq!(denied, InstanceError::ClassClosed(ClassName::new("refund").unwrap()));
    assert!(denied.to_string().starts_with("CLASS_CLOSED: "));
    assert!(begin_with(|world| world.closed = vec![ClassName::new("other").unwrap()]).is_ok());
}

#[test]
fn a_revoked_executable_does_not_begin() {
    assert_eq!(begin_with(|world| world.executable = true).unwrap_err(), InstanceError::ExecutableRevoked);
}
