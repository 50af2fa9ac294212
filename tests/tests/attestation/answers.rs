use std::collections::BTreeSet;

use chancery_core::{evidence::tpm::templates::AK_ATTRIBUTES, reason::Reason, transcript};
use chancery_proto::chancery::attest::tpm::v1 as pb;
use prost::Message;
use tonic::{Code, Status};

use crate::{
    court::{Court, case},
    forge::{OddKey, SoftKey},
    rig::{Asked, Opening, Rig, wire},
};

#[test]
fn strange_answers_touch_no_node() {
    let court = Court::open();
    let (rig, other) = (court.rig("a"), court.rig("b"));
    // The attacks below carry this node's EK: it keeps its standing and its instance.
    let _victim = court.member(&rig);

    court.refuses(vec![
        case("11, 45: A's certificate, B's TPM", Reason::ActivationFailed, others_certificate(&court, &rig, &other)),
        case("13: software AK that claims the bits", Reason::ActivationFailed, claimed_software_ak(&court, &rig)),
        case(
            "14: unrestricted AK that claims the bits",
            Reason::ActivationFailed,
            claimed_unrestricted_ak(&court, &rig),
        ),
        case(
            "19: wrong proof",
            Reason::ActivationFailed,
            rig.exchange(&court, rig.opening(), |_, _, r| r.proof = vec![0; 32]),
        ),
        case("19: no proof", Reason::ActivationFailed, rig.exchange(&court, rig.opening(), |_, _, r| r.proof.clear())),
        case(
            "19: the secret itself",
            Reason::ActivationFailed,
            rig.exchange(&court, rig.opening(), |_, asked, r| r.proof = rig.secret(asked)),
        ),
        case("20: the same bytes on another stream", Reason::ActivationFailed, replay(&court, &rig, |_, _| {})),
        case(
            "48: another AK without activation",
            Reason::ActivationFailed,
            other_ak(&court, &rig, |_, r| r.proof.clear()),
        ),
    ]);
    court.refuses(vec![
        case(
            "22: a replay with the proof fixed up",
            Reason::QuoteNonce,
            replay(&court, &rig, |asked, r| r.proof = rig.proof(asked)),
        ),
        case(
            "25: quote by a software key",
            Reason::QuoteSignature,
            rig.exchange(&court, rig.opening(), |_, _, r| {
                r.quote = SoftKey::new().sign(r.quote.take().unwrap().attest);
            }),
        ),
        case(
            "26: certification in the quote's place",
            Reason::AttestType,
            rig.exchange(&court, rig.opening(), |_, _, r| r.quote = r.certify.clone()),
        ),
        case(
            "30: RSASSA in the signature",
            Reason::SigScheme,
            rig.exchange(&court, rig.opening(), |_, _, r| r.quote.as_mut().unwrap().signature[1] = 0x14),
        ),
        case("28, 52: AK of the owner hierarchy", Reason::SignerMismatch, owner_ak(&court, &other)),
        case(
            "C1: attestation of 1025 bytes",
            Reason::EvidenceTooLarge,
            rig.exchange(&court, rig.opening(), |_, _, r| r.quote.as_mut().unwrap().attest = vec![0; 1025]),
        ),
        case("no answer at all", Reason::EvidenceMalformed, undecodable(&court, &rig)),
    ]);
    court.refuses(vec![
        case(
            "24: the other label's qualifier",
            Reason::QuoteNonce,
            rig.exchange(&court, rig.opening(), |_, asked, r| {
                let quote = rig.tpm.quote(0x000b, (0..8).collect(), transcript::certify_qualifier(&asked.base));
                r.quote = wire(quote.unwrap().0);
            }),
        ),
        case(
            "26: TPM2_GetTime in the quote's place",
            Reason::AttestType,
            rig.exchange(&court, rig.opening(), |_, asked, r| {
                r.quote = OddKey::genuine(&rig).time(&rig, transcript::quote_qualifier(&asked.base));
            }),
        ),
        case(
            "26: TPM2_CertifyCreation in the quote's place",
            Reason::AttestType,
            rig.exchange(&court, rig.opening(), |_, asked, r| {
                r.quote = OddKey::genuine(&rig).creation(&rig, transcript::quote_qualifier(&asked.base));
            }),
        ),
        case(
            "26: TPM2_NV_Certify in the quote's place",
            Reason::AttestType,
            rig.exchange(&court, rig.opening(), |_, asked, r| {
                r.quote = OddKey::genuine(&rig).stored(&rig, transcript::quote_qualifier(&asked.base));
            }),
        ),
        case(
            "27: another genuine AK of the TPM",
            Reason::QuoteSignature,
            rig.exchange(&court, rig.opening(), |_, asked, r| {
                r.quote = OddKey::of_another_epoch(&rig).quote(
                    &rig,
                    &[0, 1, 2, 3, 4, 5, 6, 7],
                    transcript::quote_qualifier(&asked.base),
                );
            }),
        ),
    ]);
    court.refuses(vec![case(
        "23: a second answer after a refused one",
        Reason::ActivationFailed,
        answered_twice(&court, &rig),
    )]);
}

/// B's TPM cannot open what was wrapped for A's: it guesses the proof.
async fn others_certificate(court: &Court, rig: &Rig, other: &Rig) -> Result<(), Status> {
    let mut opening = other.opening();
    opening.payload.ek_certificate = rig.endorsement().certificate.unwrap();
    let (mut dialogue, mut asked) = opening.send(court).await?;
    let wrapped = asked.challenge.credential.take().unwrap();
    assert!(other.tpm.activate(other.kind, wrapped.id_object, wrapped.encrypted_secret).is_err());
    let response = pb::Response { proof: vec![0x5a; 32], ..other.answer(&opening, &asked) };
    dialogue.admission(response.encode_to_vec()).await.map(drop)
}

async fn claimed_software_ak(court: &Court, rig: &Rig) -> Result<(), Status> {
    let key = SoftKey::new();
    let mut opening = rig.opening();
    opening.payload.ak_public = key.public(AK_ATTRIBUTES);
    let (mut dialogue, mut asked) = opening.send(court).await?;
    asked.challenge.credential = None;
    let honest = rig.answer(&opening, &asked);
    let resign = |signed: Option<pb::Signed>| key.sign(signed.unwrap().attest);
    let (quote, certify) = (resign(honest.quote.clone()), resign(honest.certify.clone()));
    let response = pb::Response { proof: vec![0x5a; 32], quote, certify, ..honest };
    dialogue.admission(response.encode_to_vec()).await.map(drop)
}

/// Demonstration 2 with the bits of the template painted on: the name, and so the activation, is another key's.
async fn claimed_unrestricted_ak(court: &Court, rig: &Rig) -> Result<(), Status> {
    let key = OddKey::unrestricted(rig);
    let mut opening = rig.opening();
    opening.payload.ak_public = key.public(rig);
    opening.payload.ak_public[4..8].copy_from_slice(&AK_ATTRIBUTES.to_be_bytes());
    let (mut dialogue, mut asked) = opening.send(court).await?;
    assert!(key.try_proof(rig, &asked).is_none(), "the TPM opens no secret wrapped to another name");
    asked.challenge.credential = None;
    let honest = rig.answer(&opening, &asked);
    let forged = key.sign(rig, honest.quote.unwrap().attest);
    let response =
        pb::Response { proof: vec![0x5a; 32], quote: forged, certify: honest.certify, ..pb::Response::default() };
    dialogue.admission(response.encode_to_vec()).await.map(drop)
}

/// Answers a second stream with what was said on a first; both streams are open.
async fn replay(court: &Court, rig: &Rig, fix: impl FnOnce(&Asked, &mut pb::Response)) -> Result<(), Status> {
    let opening = rig.opening();
    let (_first, asked) = opening.send(court).await?;
    let mut response = rig.answer(&opening, &asked);
    let (mut second, asked_again) = opening.send(court).await?;
    fix(&asked_again, &mut response);
    second.admission(response.encode_to_vec()).await.map(drop)
}

async fn undecodable(court: &Court, rig: &Rig) -> Result<(), Status> {
    let (mut dialogue, _) = rig.opening().send(court).await?;
    dialogue.admission(vec![0xff; 40]).await.map(drop)
}

async fn answered_twice(court: &Court, rig: &Rig) -> Result<(), Status> {
    let opening = rig.opening();
    let (mut dialogue, asked) = opening.send(court).await?;
    let honest = rig.answer(&opening, &asked);
    let wrong = pb::Response { proof: vec![0; 32], ..honest.clone() };
    let first = dialogue.admission(wrong.encode_to_vec()).await;
    let second = dialogue.admission(honest.encode_to_vec()).await.unwrap_err();
    assert_eq!(second.code(), Code::Internal, "the stream is over: {second:?}");
    first.map(drop)
}

pub async fn owner_ak(court: &Court, rig: &Rig) -> Result<(), Status> {
    with_ak(court, rig, OddKey::of_the_owner(rig), |_, _| {}).await
}

async fn other_ak(court: &Court, rig: &Rig, alter: impl FnOnce(&Asked, &mut pb::Response)) -> Result<(), Status> {
    with_ak(court, rig, OddKey::of_another_epoch(rig), alter).await
}

/// Attests with another key where the AK belongs, for all the TPM will do.
async fn with_ak(
    court: &Court,
    rig: &Rig,
    key: OddKey,
    alter: impl FnOnce(&Asked, &mut pb::Response),
) -> Result<(), Status> {
    let mut opening = rig.renewal();
    opening.payload.ak_public = key.public(rig);
    let (mut dialogue, asked) = opening.send(court).await?;
    assert!(asked.challenge.credential.is_some(), "48: an unknown AK is activated whatever it wishes");
    let mut response = pb::Response {
        proof: key.try_proof(rig, &asked).unwrap(),
        quote: key.quote(rig, &[0, 1, 2, 3, 4, 5, 6, 7], transcript::quote_qualifier(&asked.base)),
        pcr_values: rig.tpm.quote(0x000b, (0..8).collect(), [0; 32]).unwrap().1,
        certify: key.certify(rig, &opening, transcript::certify_qualifier(&asked.base)),
        event_log: Vec::new(),
        pkcs11: None,
    };
    alter(&asked, &mut response);
    dialogue.admission(response.encode_to_vec()).await.map(drop)
}

#[test]
fn one_ek_one_ak_one_node() {
    let court = Court::open();
    let mut rig = court.rig("a");

    // Case 46: both hold a challenge before either answers.
    let mark = court.timeline.newest();
    let [first, second] = court.run(async {
        let (one, two) = (rig.opening(), rig.opening());
        let (mut dialogue_one, asked_one) = one.send(&court).await.unwrap();
        let (mut dialogue_two, asked_two) = two.send(&court).await.unwrap();
        let answers = [rig.answer(&one, &asked_one).encode_to_vec(), rig.answer(&two, &asked_two).encode_to_vec()];
        let [answer_one, answer_two] = answers;
        tokio::join!(dialogue_one.admission(answer_one), dialogue_two.admission(answer_two)).into()
    });
    let lost = [&first, &second].into_iter().filter_map(|answer| answer.as_ref().err());
    let lost: Vec<Code> = lost.map(Status::code).collect();
    assert_eq!(lost, [Code::Aborted], "46: one is admitted, the other may try again: {first:?}, {second:?}");
    court.wait(mark, "node.attested", |e| e.kind == "node.attested");
    assert_eq!(court.nodes().len(), 1, "46: one node");

    // Case 48: a new AK of the same EK comes in by activation, and by nothing else (the other half is above).
    court.run(other_ak(&court, &rig, |_, _| {})).unwrap();
    court.wait(mark + 1, "node.attested", |e| e.kind == "node.attested" && e.number > mark + 1);
    assert_eq!(court.nodes().len(), 1, "48: the same node");
    court.admit(&rig);

    // A second answer on the stream of an admission (case 20) finds nobody.
    let mark = court.timeline.newest();
    let over = court.run(async {
        let opening = rig.opening();
        let (mut dialogue, asked) = opening.send(&court).await.unwrap();
        let response = rig.answer(&opening, &asked).encode_to_vec();
        dialogue.admission(response.clone()).await.unwrap();
        dialogue.admission(response).await.unwrap_err()
    });
    assert_eq!(over.code(), Code::Internal, "20: the stream is over: {over:?}");
    court.wait(mark, "the last admission", |e| e.kind == "node.attested");

    // With the P-384 EK: an emulator may take seconds to make its RSA EK anew for every activation.
    challenges_never_repeat(&court, &rig);

    // Case 47: the second EK of the same TPM is enrolled too, but the AK is taken.
    let twins = court.admit(&rig);
    rig.kind = chancery_attestor::tpm::EkKind::Rsa2048;
    court.enrol(&rig.endorsement().hash());
    court.refuses(vec![case(
        "47: the same TPM by its RSA EK",
        Reason::IdentityConflict,
        rig.exchange(&court, rig.opening(), |_, _, _| {}),
    )]);
    assert_eq!(court.node(&twins.id)["standing"], "good");
}

/// Case 57.
fn challenges_never_repeat(court: &Court, rig: &Rig) {
    const MANY: usize = 24;
    let mut seen: [BTreeSet<Vec<u8>>; 4] = Default::default();
    let opening: Opening = rig.opening();
    for _ in 0..MANY {
        let (_, asked) = court.run(opening.send(court)).unwrap();
        let credential = asked.challenge.credential.clone().unwrap();
        let parts =
            [asked.challenge.nonce.clone(), credential.id_object, credential.encrypted_secret, rig.secret(&asked)];
        for (set, part) in seen.iter_mut().zip(parts) {
            assert!(part.len() >= 32);
            set.insert(part);
        }
    }
    assert_eq!(seen.map(|set| set.len()), [MANY; 4], "nonce, credential, seed, secret");
}
