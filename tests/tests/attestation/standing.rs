use std::time::Instant;

use chancery_core::{reason::Reason, transcript};
use chancery_proto::{chancery::attest::tpm::v1 as pb, spire::api::types::X509svid};
use chancery_tests::swtpm::{Swtpm, copy_state};
use rcgen::{CertificateParams, KeyPair};
use tonic::Status;

use crate::{
    court::Court,
    forge::{OddKey, SoftKey},
    log,
    rig::{Asked, Opening, Rig, wire},
};

/// An alteration of the honest answer.
type Alter<'a> = Box<dyn FnOnce(&Opening, &Asked, &mut pb::Response) + 'a>;

#[test]
fn what_the_nodes_own_ak_signed_ends_its_standing_and_its_instances() {
    let court = Court::open();
    let (rig, other) = (court.rig("a"), court.rig("b"));
    let _bystander = court.member(&other);
    let cases: Vec<(&str, Reason, Alter<'_>)> = vec![
        ("26: quote in the certification's place", Reason::AttestType, Box::new(|_, _, r| r.certify = r.quote.clone())),
        (
            "26: TPM2_CertifyCreation in the certification's place",
            Reason::AttestType,
            Box::new(|_, asked, r| {
                r.certify = OddKey::genuine(&rig).creation(&rig, transcript::certify_qualifier(&asked.base));
            }),
        ),
        (
            "27: certification by another AK of the TPM",
            Reason::QuoteSignature,
            Box::new(|opening, asked, r| {
                let key = OddKey::of_another_epoch(&rig);
                r.certify = key.certify(&rig, opening, transcript::certify_qualifier(&asked.base));
            }),
        ),
        (
            "31: quote over fewer PCRs",
            Reason::PcrSelection,
            Box::new(|_, asked, r| {
                let quote = rig.tpm.quote(0x000b, (0..7).collect(), transcript::quote_qualifier(&asked.base)).unwrap();
                (r.quote, r.pcr_values) = (wire(quote.0), quote.1);
            }),
        ),
        ("32: a PCR value altered", Reason::PcrDigest, Box::new(|_, _, r| r.pcr_values[3][0] ^= 1)),
        ("32: a PCR value left out", Reason::EvidenceMalformed, Box::new(|_, _, r| drop(r.pcr_values.pop()))),
        (
            "33: a log of events that were not measured",
            Reason::LogReplay,
            Box::new(|_, _, r| r.event_log = log::of(&log::secure_boot(1))),
        ),
        ("37: a log that is none", Reason::LogMalformed, Box::new(|_, _, r| r.event_log = vec![1, 2, 3])),
        (
            "42: another key certified",
            Reason::CertifyName,
            Box::new(|_, asked, r| {
                let blob = rig.tpm.new_node_key().unwrap();
                r.certify = wire(rig.tpm.certify(&blob, transcript::certify_qualifier(&asked.base)).unwrap());
            }),
        ),
        (
            "43: certification of a former challenge",
            Reason::CertifyNonce,
            Box::new(|opening, asked, r| {
                let before = Asked { base: [9; 32], ..asked.clone() };
                r.certify = wire(rig.certify(opening, &before));
            }),
        ),
    ];
    for (name, reason, alter) in cases {
        let member = court.member(&rig);
        court.fails(name, reason, &member, rig.exchange(&court, rig.opening(), alter));
    }
    let member = court.member(&rig);
    court.fails(
        "40: software node key that claims the bits",
        Reason::CertifyName,
        &member,
        software_node_key(&court, &rig),
    );
    let member = court.member(&rig);
    court.fails(
        "28: AK of the owner hierarchy",
        Reason::SignerMismatch,
        &member,
        crate::answers::owner_ak(&court, &rig),
    );
}

/// Case 40 with the bits of the template painted on: the genuine AK certifies the key by its true name.
async fn software_node_key(court: &Court, rig: &Rig) -> Result<X509svid, Status> {
    let key = SoftKey::new();
    let pair = KeyPair::try_from(key.pkcs8.as_slice()).unwrap();
    let mut opening = rig.opening();
    opening.payload.node_public = key.public(crate::forge::NODE_KEY);
    opening.csr = CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    let certify = |_: &Opening, asked: &Asked, response: &mut pb::Response| {
        response.certify = key.certify(rig, transcript::certify_qualifier(&asked.base));
    };
    rig.exchange(court, opening, certify).await
}

#[test]
fn boot_state_that_went_back_or_changed_is_the_nodes_own_failure() {
    let court = Court::open();
    let (rig, other) = (court.rig("a"), court.rig("b"));
    let _bystander = court.member(&other);
    let renew = |rig: &Rig| rig.renewal();

    // A renewal without activation is fine as long as nothing happened.
    let member = court.member(&rig);
    let mark = court.timeline.newest();
    court.run(rig.exchange(&court, renew(&rig), |_, asked, _| assert!(asked.challenge.credential.is_none()))).unwrap();
    court.wait(mark, "node.attested", |e| e.kind == "node.attested" && e.subject == member.id);

    rig.swtpm.extend(7, [0x77; 32]).unwrap();
    let runtime = rig.exchange(&court, renew(&rig), |_, _, _| {});
    court.fails("51: PCR 7 extended at run time", Reason::PcrRuntimeChange, &member, runtime);

    rig.swtpm.reboot().unwrap();
    let member = court.member(&rig);
    rig.swtpm.clear().unwrap();
    let cleared = rig.exchange(&court, renew(&rig), |_, asked, _| assert!(asked.challenge.credential.is_none()));
    court.fails("50: TPM cleared, no activation", Reason::ResetRollback, &member, cleared);
    // By activation it comes back.
    court.admit(&rig);

    clock_rollback(&court, rig);
    assert_eq!(court.node(&other.id())["standing"], "good");
}

/// Case 49: the TPM's memory is put back to what it was when this boot began.
fn clock_rollback(court: &Court, rig: Rig) {
    let snapshot = court.scratch().join("snapshot");
    let state = rig.swtpm.stop();
    copy_state(&state, &snapshot).unwrap();
    let rig = Rig::over(Swtpm::start(&state).unwrap(), &court.playground.trust_domain);
    let started = Instant::now();
    let member = court.member(&rig);
    // The clock of this boot must be ahead of anything the restored one can reach.
    while started.elapsed().as_secs() < 4 {
        court.admit(&rig);
    }
    rig.swtpm.stop();
    let rig = Rig::over(Swtpm::start(&snapshot).unwrap(), &court.playground.trust_domain);
    let restored = rig.exchange(court, rig.opening(), |_, _, _| {});
    court.fails("49: TPM state restored from a copy", Reason::ClockRollback, &member, restored);
}
