//! `pkcs11:attested:<vendor>` over the network: what makers' devices state of the very key in use, and of others.

use std::collections::BTreeSet;

use chancery_core::reason::Reason;
use chancery_proto::chancery::attest::pkcs11::v1 as pb;
use prost::Message;
use rcgen::{KeyPair, PublicKeyData};
use tonic::Status;

use crate::{
    court::{Court, case},
    makers::{Claims, SC_HSM_SERIAL, ScHsm, YUBIHSM2_SERIAL, YubiHsm2},
    token_rig::TokenRig,
};

/// A CA that takes both makers' evidence, of one listed device each.
struct Bench {
    court: Court,
    yubihsm2: YubiHsm2,
    sc_hsm: ScHsm,
    _roots: tempfile::TempDir,
}

impl Bench {
    fn open() -> Self {
        let (yubihsm2, sc_hsm) = (YubiHsm2::new(), ScHsm::new(1));
        let roots = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: Vec<u8>| {
            let path = roots.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let lines = format!(
            "\n[[pkcs11.vendor]]\nname = \"yubihsm2\"\nserials = [\"{YUBIHSM2_SERIAL}\"]\nroot_files = [{:?}]\n\
             \n[[pkcs11.vendor]]\nname = \"sc-hsm\"\nserials = [\"{SC_HSM_SERIAL}\"]\nroot_files = [{:?}]\n\
             require_unexportable = false\n",
            file("yubihsm2.der", yubihsm2.root()),
            file("sc-hsm.cvc", sc_hsm.root()),
        );
        Self { court: Court::for_tokens(&lines), yubihsm2, sc_hsm, _roots: roots }
    }

    /// A key that its YubiHSM 2 states to have made.
    fn yubihsm2_rig(&self) -> TokenRig {
        let mut rig = TokenRig::new(&self.court);
        rig.vendor = vec![yubihsm2(self.yubihsm2.states(&rig.key, &Claims::default()))];
        rig
    }

    /// A key that its SmartCard-HSM states to have made.
    fn sc_hsm_rig(&self) -> TokenRig {
        let mut rig = TokenRig::new(&self.court);
        rig.vendor = vec![sc_hsm(self.sc_hsm.states(rig.key.der_bytes()))];
        rig
    }

    fn selectors(&self, id: &str) -> BTreeSet<String> {
        let node = self.court.node(id);
        let all = node["selectors"].as_array().unwrap();
        all.iter().map(|s| format!("{}:{}", s["type"].as_str().unwrap(), s["value"].as_str().unwrap())).collect()
    }
}

fn yubihsm2(evidence: Vec<u8>) -> pb::VendorEvidence {
    pb::VendorEvidence { kind: "yubihsm2".into(), evidence }
}

fn sc_hsm(evidence: Vec<u8>) -> pb::VendorEvidence {
    pb::VendorEvidence { kind: "sc-hsm".into(), evidence }
}

#[test]
fn a_stated_key_is_admitted_at_that_level_and_no_other_and_a_class_begins_on_it() {
    let bench = Bench::open();
    let told = [
        (
            bench.yubihsm2_rig(),
            "yubi",
            vec![
                "attested:yubihsm2".to_string(),
                format!("yubihsm2:serial:{YUBIHSM2_SERIAL}"),
                "yubihsm2:origin:generated".into(),
                "yubihsm2:exportable:false".into(),
                "yubihsm2:fw:2.4".into(),
            ],
        ),
        (
            bench.sc_hsm_rig(),
            "sc",
            vec!["attested:sc-hsm".into(), format!("sc-hsm:serial:{SC_HSM_SERIAL}"), "sc-hsm:origin:generated".into()],
        ),
    ];
    for (rig, class, stated) in told {
        let member = rig.admit(&bench.court);
        let spki = format!("spki:sha256:{}", rig.hash());
        let expected: BTreeSet<String> =
            stated.into_iter().chain([spki]).map(|value| format!("pkcs11:{value}")).collect();
        assert_eq!(bench.selectors(&member.id), expected);
        let create = ["class", "create", "--name", class, "--parent-id", &member.id, "--selector", "unix:uid:4711"];
        bench.court.ca_told(&create, "class.created");
        bench.court.run(member.try_begin(&bench.court, class)).unwrap();
        // It attests again with the same statement: nothing of it is fresh but the signature.
        rig.admit(&bench.court);
    }
}

#[test]
fn statements_that_do_not_cover_the_key_in_use_admit_nobody() {
    let bench = Bench::open();
    let (court, honest) = (&bench.court, bench.yubihsm2_rig());
    honest.admit(court);
    let rig = TokenRig::new(court);
    let states = |claims: Claims| yubihsm2(bench.yubihsm2.states(&rig.key, &claims));
    let sent = |vendor: Vec<pb::VendorEvidence>| {
        let mut opening = rig.opening();
        opening.payload.vendor = vendor;
        opening.sent(court)
    };
    let other = KeyPair::generate().unwrap();
    let cut = {
        let mut evidence = states(Claims::default());
        evidence.evidence.pop();
        evidence
    };
    court.refuses(vec![
        case("40: evidence for another key", Reason::VendorKey, sent(honest.vendor.clone())),
        case(
            "40: the same, of the other maker",
            Reason::VendorKey,
            sent(vec![sc_hsm(bench.sc_hsm.states(other.der_bytes()))]),
        ),
        case(
            "41: an unpinned root",
            Reason::VendorChain,
            sent(vec![yubihsm2(YubiHsm2::new().states(&rig.key, &Claims::default()))]),
        ),
        case(
            "41: an unpinned root under a pinned one's name",
            Reason::VendorChain,
            sent(vec![sc_hsm(ScHsm::new(9).states(rig.key.der_bytes()))]),
        ),
        case(
            "41: the unpinned root sent along",
            Reason::EvidenceMalformed,
            sent(vec![yubihsm2({
                let maker = YubiHsm2::new();
                [maker.states(&rig.key, &Claims::default()), maker.root()].concat()
            })]),
        ),
        case(
            "41: made by an attested key",
            Reason::VendorChain,
            sent(vec![yubihsm2(bench.yubihsm2.forged_by(&honest.key, &rig.key))]),
        ),
        case("42: extractable", Reason::VendorExportable, sent(vec![states(Claims::extractable())])),
        case("42: imported", Reason::VendorImported, sent(vec![states(Claims::imported())])),
        case("43: none, and not enrolled", Reason::KeyUnknown, sent(Vec::new())),
        case("43: one byte short", Reason::EvidenceMalformed, sent(vec![cut])),
        case(
            "34: called another maker's",
            Reason::EvidenceMalformed,
            sent(vec![sc_hsm(states(Claims::default()).evidence)]),
        ),
        case("44: twice", Reason::VendorClaim, sent(vec![states(Claims::default()), states(Claims::default())])),
    ]);
}

/// Swaps the statement after the token signed: the signature is over another payload.
async fn swapped(court: &Court, rig: &TokenRig, signed: pb::VendorEvidence) -> Result<(), Status> {
    let mut honest = rig.opening();
    honest.payload.vendor = vec![signed];
    let mut sent = honest.clone();
    sent.payload.vendor.clone_from(&rig.vendor);
    let (mut dialogue, asked) = sent.send(court).await?;
    let domain = &court.playground.trust_domain;
    let base = honest.base_of(domain, &asked);
    dialogue.admission(pb::Response { signature: rig.sign(&base) }.encode_to_vec()).await.map(drop)
}

#[test]
fn a_statement_proves_nothing_without_its_key() {
    let bench = Bench::open();
    let (court, rig) = (&bench.court, bench.yubihsm2_rig());
    let thief = TokenRig::new(court);
    let older = yubihsm2(bench.yubihsm2.states(&rig.key, &Claims::extractable()));
    court.refuses(vec![
        case(
            "7: who copied the evidence has no key",
            Reason::KeyProof,
            rig.exchange(court, rig.opening(), |asked| thief.sign(&asked.base)),
        ),
        case("45: the statement swapped after the signature", Reason::KeyProof, swapped(court, &rig, older)),
    ]);
}

#[test]
fn a_key_without_its_statement_is_only_possession_and_begins_no_class() {
    let bench = Bench::open();
    let (court, mut rig) = (&bench.court, bench.yubihsm2_rig());
    let member = rig.admit(court);
    let create = ["class", "create", "--name", "yubi", "--parent-id", &member.id, "--selector", "unix:uid:4711"];
    court.ca_told(&create, "class.created");
    rig.vendor.clear();
    court.refuses(vec![case("43: a known node without its statement", Reason::KeyUnknown, rig.attest(court))]);
    // An operator may still say that the key is ours: then possession is all that is proven.
    rig.enrol(court);
    let member = rig.admit(court);
    let expected = BTreeSet::from(["pkcs11:pop-only".to_string(), format!("pkcs11:spki:sha256:{}", rig.hash())]);
    assert_eq!(bench.selectors(&member.id), expected);
    let begun = court.run(member.try_begin(court, "yubi"));
    assert_eq!(begun.unwrap_err().code(), tonic::Code::FailedPrecondition);
}
