//! The threat cases of PKCS#11 attestation (docs/SOURCES.md), over the network.

use chancery_core::{reason::Reason, transcript};
use chancery_proto::{
    chancery::attest::pkcs11::v1 as pb,
    spire::api::{
        server::agent::v1::{AgentX509svidParams, RenewAgentRequest, agent_client::AgentClient},
        types::X509svid,
    },
};
use chancery_tests::attestation::dialer;
use prost::Message;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SigningKey,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};

use crate::{
    court::{Court, case, denied},
    rig::Rig,
    token_rig::{EnrolmentCa, TokenAsked, TokenOpening, TokenRig},
};

/// A CA that believes an enrolment CA.
fn court_with_ca() -> (Court, EnrolmentCa, tempfile::NamedTempFile) {
    let ca = EnrolmentCa::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &ca.pem).unwrap();
    let court = Court::for_tokens(&format!("\n[pkcs11]\nenrolment_ca_file = {:?}\n", file.path()));
    (court, ca, file)
}

#[test]
fn strange_answers_of_a_token_touch_no_node() {
    let court = Court::for_tokens("");
    let (rig, other) = (TokenRig::enrolled(&court), TokenRig::enrolled(&court));
    // Cases 1 and 32: it joins, and joins again.
    let member = rig.admit(&court);
    rig.admit(&court);
    let selectors = court.node(&member.id)["selectors"].to_string();
    assert!(selectors.contains("pop-only") && !selectors.contains("device-cert"), "{selectors}");

    let (proof, domain) = (Reason::KeyProof, court.playground.trust_domain.clone());
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let base = |label: &str, domain: &str, asked: &TokenAsked, exporter: &[u8; 32]| {
        rig.sign(&transcript::base(label, domain, &asked.t2, exporter))
    };
    let answer = || rig.opening();
    court.refuses(vec![
        case("3: an answer to another stream's challenge", proof, of_another_stream(&court, &rig)),
        case(
            "4, 5: an answer of another connection",
            proof,
            rig.exchange(&court, answer(), |asked| base(transcript::LABEL_PKCS11, &domain, asked, &[9; 32])),
        ),
        case("6: the CSR swapped after the signature", proof, csr_swapped(&court, &rig)),
        case("7: another key signs", proof, rig.exchange(&court, answer(), |asked| other.sign(&asked.base))),
        case("9: the nonce alone", proof, rig.exchange(&court, answer(), |asked| rig.sign(&asked.nonce))),
        case(
            "10: the other attestor's label",
            proof,
            rig.exchange(&court, answer(), |asked| base(transcript::LABEL_TPM, &domain, asked, &asked.exporter)),
        ),
        case(
            "11: another trust domain",
            proof,
            rig.exchange(&court, answer(), |asked| {
                base(transcript::LABEL_PKCS11, "other.test", asked, &asked.exporter)
            }),
        ),
        case("13: raw instead of DER", proof, rig.exchange(&court, answer(), |asked| raw(&rig.sign(&asked.base)))),
        case("30: P-384", proof, rig.exchange(&court, answer(), |asked| p384.sign(&asked.base).unwrap())),
        case("no signature", proof, rig.exchange(&court, answer(), |_| Vec::new())),
        case("2, 14: a second answer", proof, answered_twice(&court, &rig)),
    ]);
    court.ca_told(&["node", "ban", &member.id], "node.banned");
    court.refuses(vec![case("31: banned", Reason::NodeBanned, rig.attest(&court))]);
}

async fn of_another_stream(court: &Court, rig: &TokenRig) -> Result<(), Status> {
    let opening = rig.opening();
    let (_first, asked) = opening.send(court).await?;
    let (mut second, _) = opening.send(court).await?;
    let response = pb::Response { signature: rig.sign(&asked.base) };
    second.admission(response.encode_to_vec()).await.map(drop)
}

/// The signature is over the transcript of another CSR than was sent.
async fn csr_swapped(court: &Court, rig: &TokenRig) -> Result<(), Status> {
    let mut opening = rig.opening();
    let honest = opening.csr.clone();
    opening.csr = rig.opening().csr;
    let (mut dialogue, asked) = opening.send(court).await?;
    let claimed = TokenOpening { csr: honest, ..opening };
    let signature = rig.sign(&claimed.base_of(&court.playground.trust_domain, &asked));
    dialogue.admission(pb::Response { signature }.encode_to_vec()).await.map(drop)
}

async fn answered_twice(court: &Court, rig: &TokenRig) -> Result<(), Status> {
    let opening = rig.opening();
    let (mut dialogue, asked) = opening.send(court).await?;
    let first = dialogue.admission(pb::Response { signature: vec![0; 70] }.encode_to_vec()).await;
    let honest = pb::Response { signature: rig.sign(&asked.base) };
    let second = dialogue.admission(honest.encode_to_vec()).await.unwrap_err();
    assert_eq!(second.code(), Code::Internal, "the stream is over: {second:?}");
    first.map(drop)
}

/// r and s, 32 bytes each.
fn raw(der: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), &der[2..]);
    while let [_, len, tail @ ..] = rest {
        let (integer, tail) = tail.split_at(usize::from(*len));
        let value = &integer[integer.len().saturating_sub(32)..];
        out.extend(vec![0; 32 - value.len()]);
        out.extend(value);
        rest = tail;
    }
    out
}

#[test]
fn strange_openings_of_a_token_touch_no_node() {
    let (court, ca, _file) = court_with_ca();
    let rig = TokenRig::new(&court);
    // A token that the operator's CA vouches for needs no enrolment of its own.
    let mut vouched = TokenRig::new(&court);
    vouched.certificates = vec![ca.issue(&vouched.key, |_| {})];
    let member = vouched.admit(&court);
    assert!(court.node(&member.id)["selectors"].to_string().contains("device-cert"));

    let sent = |chain: Vec<Vec<u8>>| {
        let mut opening = rig.opening();
        opening.payload.certificates = chain;
        opening.sent(&court)
    };
    let with = |alter: fn(&mut CertificateParams)| sent(vec![ca.issue(&rig.key, alter)]);
    let (stranger, site) = (EnrolmentCa::new(), ca.below());
    let mut flipped = ca.issue(&rig.key, |_| {});
    *flipped.last_mut().unwrap() ^= 1;
    let trailing = [ca.issue(&rig.key, |_| {}), vec![0]].concat();
    court.refuses(vec![
        case(
            "15: unknown root, sent along",
            Reason::DeviceCertUntrusted,
            sent(vec![stranger.issue(&rig.key, |_| {}), stranger.der.clone()]),
        ),
        case("16: expired", Reason::DeviceCertValidity, with(|p| p.not_after = date_time_ymd(2020, 1, 1))),
        case("17: not yet valid", Reason::DeviceCertValidity, with(|p| p.not_before = date_time_ymd(2099, 1, 1))),
        case(
            "18: for servers",
            Reason::DeviceCertEku,
            with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        case("19: for nothing", Reason::DeviceCertEku, with(|p| p.extended_key_usages.clear())),
        case(
            "20: not for signatures",
            Reason::DeviceCertProfile,
            with(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        ),
        case(
            "21: a CA's certificate",
            Reason::DeviceCertProfile,
            with(|p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
        case("22: intermediate missing", Reason::DeviceCertUntrusted, sent(vec![site.issue(&rig.key, |_| {})])),
        case("23: nine certificates", Reason::EvidenceTooLarge, sent(vec![ca.issue(&rig.key, |_| {}); 9])),
        case("24: none, and not enrolled", Reason::KeyUnknown, sent(Vec::new())),
        case("25: a bit flipped", Reason::DeviceCertUntrusted, sent(vec![flipped])),
        case("26: a byte behind it", Reason::EvidenceMalformed, sent(vec![trailing])),
        case("33: of another key", Reason::KeyMismatch, sent(vouched.certificates.clone())),
    ]);
    court.refuses(vec![
        case(
            "27: CSR signature broken",
            Reason::CsrSignature,
            altered(&court, &vouched, |o| *o.csr.last_mut().unwrap() ^= 1),
        ),
        case(
            "28: CSR for the key itself",
            Reason::KeyReused,
            altered(&court, &vouched, |o| {
                o.csr = CertificateParams::default().serialize_request(&vouched.key).unwrap().der().to_vec();
            }),
        ),
        case(
            "34: a maker that is not enabled",
            Reason::VendorKind,
            altered(&court, &vouched, |o| {
                o.payload.vendor = vec![pb::VendorEvidence { kind: "yubihsm2".into(), evidence: vec![1; 64] }];
            }),
        ),
        case(
            "35: off the curve",
            Reason::KeyWeak,
            altered(&court, &vouched, |o| *o.payload.key.last_mut().unwrap() ^= 1),
        ),
        case("no payload", Reason::EvidenceMalformed, altered(&court, &vouched, |o| o.payload.version = 9)),
    ]);
    // Case 29: names asked for are ignored, and nothing of them is granted.
    let svid = court.run(async {
        let mut opening = vouched.opening();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["admin.example".into()]).unwrap();
        opening.csr = names.serialize_request(&key).unwrap().der().to_vec();
        vouched.exchange(&court, opening, |asked| vouched.sign(&asked.base)).await.unwrap()
    });
    assert_eq!(svid.id.unwrap().path, member.id.split_once(&court.playground.trust_domain).unwrap().1);
}

async fn altered(court: &Court, rig: &TokenRig, alter: impl FnOnce(&mut TokenOpening)) -> Result<(), Status> {
    let mut opening = rig.opening();
    alter(&mut opening);
    opening.sent(court).await
}

#[test]
fn a_class_begins_on_vouched_tokens_only_and_renewal_is_attestation() {
    let (court, ca, _file) = court_with_ca();
    let (plain, mut vouched) = (TokenRig::enrolled(&court), TokenRig::new(&court));
    vouched.certificates = vec![ca.issue(&vouched.key, |_| {})];
    for (rig, name, begins) in [(&plain, "plain", false), (&vouched, "vouched", true)] {
        let member = rig.admit(&court);
        let class = ["class", "create", "--name", name, "--parent-id", &member.id, "--selector", "unix:uid:4711"];
        court.ca_told(&class, "class.created");
        let begun = court.run(member.try_begin(&court, name));
        assert_eq!(begun.is_ok(), begins, "{name}: {begun:?}");

        let renewed = court.run(renewed(&court, &member));
        assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied, "{name}: RenewAgent");
    }
}

async fn renewed(court: &Court, member: &crate::rig::Member) -> Result<(), Status> {
    let play = &court.playground;
    let dialer = std::sync::Arc::new(dialer(&play.authority, &play.trust_domain, &play.authority.grpc.to_string())?);
    let chain = member.svid.cert_chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = chancery_attestor::crypto::certified(chain, std::sync::Arc::clone(&member.key));
    let channel = dialer.line(key).unwrap().channel().await.unwrap();
    let csr = chancery_attestor::crypto::csr(member.key.as_ref()).unwrap();
    let request = RenewAgentRequest { params: Some(AgentX509svidParams { csr }) };
    AgentClient::new(channel).renew_agent(request).await.map(drop)
}

#[test]
fn two_answers_at_once_admit_one() {
    let court = Court::for_tokens("");
    let rig = TokenRig::enrolled(&court);
    let outcomes: [Result<X509svid, Status>; 2] = court.run(async {
        let (one, two) = (rig.opening(), rig.opening());
        let (mut first, asked_first) = one.send(&court).await.unwrap();
        let (mut second, asked_second) = two.send(&court).await.unwrap();
        let answer = |asked: &TokenAsked| pb::Response { signature: rig.sign(&asked.base) }.encode_to_vec();
        tokio::join!(first.admission(answer(&asked_first)), second.admission(answer(&asked_second))).into()
    });
    let lost: Vec<Code> = outcomes.iter().filter_map(|o| o.as_ref().err()).map(Status::code).collect();
    assert_eq!(lost, [Code::Aborted], "{outcomes:?}");
    assert_eq!(court.nodes().len(), 1);
}

#[test]
fn a_token_beside_a_tpm_proves_both_and_its_lies_are_the_nodes_own() {
    let court = Court::for_tokens("");
    let (rig, token, other) = (court.rig("a"), TokenRig::enrolled(&court), TokenRig::enrolled(&court));
    let mark = court.timeline.newest();
    court.run(both(&court, &rig, &token, |asked| token.sign(asked))).unwrap();
    court.wait(mark, "node.attested", |e| e.kind == "node.attested" && e.subject == rig.id());
    let selectors = court.node(&rig.id())["selectors"].to_string();
    assert!(selectors.contains("enrolled:yes") && selectors.contains("pop-only"), "{selectors}");

    // Case 38: the token is this node's now, and the node's is this token.
    court.refuses(vec![case("38: the token alone", Reason::IdentityConflict, token.attest(&court))]);
    let member = court.member(&rig);
    let another = both(&court, &rig, &other, |asked| other.sign(asked));
    court.fails("38: another token beside the TPM", Reason::IdentityConflict, &member, another);
    let member = court.member(&rig);
    let forged = both(&court, &rig, &token, |asked| other.sign(asked));
    court.fails("37: another key signs for the token", Reason::KeyProof, &member, forged);
}

/// A TPM's honest evidence with a token's section, which `sign` signs.
async fn both(
    court: &Court,
    rig: &Rig,
    token: &TokenRig,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<X509svid, Status> {
    let mut opening = rig.opening();
    opening.payload.pkcs11 = Some(token.section());
    let (mut dialogue, asked) = opening.send(court).await?;
    let base = transcript::base(
        transcript::LABEL_PKCS11,
        &court.playground.trust_domain,
        &asked.t2,
        &dialogue.exporters.pkcs11,
    );
    let mut response = rig.answer(&opening, &asked);
    response.pkcs11 = Some(pb::Response { signature: sign(&base) });
    dialogue.admission(response.encode_to_vec()).await
}

#[test]
fn a_token_is_refused_where_it_is_not_configured() {
    let court = Court::open();
    let token = TokenRig::enrolled(&court);
    let status = court.run(token.attest(&court)).map(drop).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let rig = court.rig("a");
    let refused = court.run(both(&court, &rig, &token, |asked| token.sign(asked)));
    denied("beside a TPM", refused);
}
