use std::fs;

use chancery_core::{evidence::tpm::templates::AK_ATTRIBUTES, reason::Reason};
use prost::Message;
use rcgen::{CertificateParams, KeyPair};

use crate::{
    certificates::{Maker, Profile},
    court::{Case, Court, case},
    forge::{EXTERNAL, OddKey, SoftKey},
    rig::{Opening, Rig},
};

#[test]
fn strange_openings_are_refused_before_a_challenge_is_spent() {
    let mut court = Court::open();
    let rig = court.rig("a");
    let bystander = court.member(&rig);
    let maker = Maker::new();
    let pem = court.scratch().join("maker.pem");
    fs::write(&pem, &maker.pem).unwrap();
    let import = ["anchor", "import", pem.to_str().unwrap(), "--manufacturer", crate::certificates::MANUFACTURER];
    court.ca_told(&import, "anchor.imported");
    court.enrol(&maker.ek_hash());

    let stranger = court.rig_of_another_maker("stranger");
    court.refuses(vec![
        case("1: EK certificate of an unknown CA", Reason::EkUntrusted, stranger.opening().sent(&court)),
        certified(&court, &rig, "3: EK certificate of the past", Reason::EkValidity, maker.issue(&until(2021))),
        certified(&court, &rig, "4: clientAuth only", Reason::EkEku, maker.issue(&usage(&[1, 3, 6, 1, 5, 5, 7, 3, 2]))),
        certified(&court, &rig, "5: unknown critical extension", Reason::EkCriticalExt, maker.issue(&critical())),
        certified(&court, &rig, "6: CA certificate", Reason::EkProfile, maker.issue(&ca())),
        certified(&court, &rig, "7: another manufacturer", Reason::EkSan, maker.issue(&made_by("id:53544D20"))),
        certified(
            &court,
            &rig,
            "8: 9 KiB",
            Reason::EvidenceTooLarge,
            [rig_certificate(&rig), vec![0; 9 << 10]].concat(),
        ),
        certified(
            &court,
            &rig,
            "8: trailing byte",
            Reason::EvidenceMalformed,
            [rig_certificate(&rig), vec![0]].concat(),
        ),
        case("9: EK on P-224", Reason::EkWeak, p224(&rig).sent(&court)),
        certified(&court, &rig, "10: EK nobody enrolled", Reason::EkUnknown, Maker::new().issue(&Profile::default())),
    ]);
    court.refuses(vec![
        certified(&court, &rig, "2: self-signed, the anchor's name", Reason::EkUntrusted, maker.self_signed()),
        certified(&court, &rig, "6: platform certificate", Reason::EkProfile, maker.issue(&usage(&[2, 23, 133, 8, 2]))),
        software_ak(&court, &rig),
        case(
            "18: AK with a byte more",
            Reason::EvidenceMalformed,
            with(&rig, |o| o.payload.ak_public.push(0)).sent(&court),
        ),
        software_node_key(&court, &rig),
        case("44: CSR of another key", Reason::CsrKey, csr_of_another_key(&rig).sent(&court)),
        case("44: CSR signature broken", Reason::CsrSignature, with(&rig, break_last).sent(&court)),
    ]);
    let unrestricted = OddKey::unrestricted(&rig);
    assert!(unrestricted.sign(&rig, b"\xffTCG".to_vec()).is_some(), "the TPM signs a forged attestation with this key");
    let public = unrestricted.public(&rig);
    court.refuses(vec![
        case(
            "14: unrestricted AK in the TPM",
            Reason::AkTemplate,
            with(&rig, |o| o.payload.ak_public = public).sent(&court),
        ),
        case("54: another version", Reason::EvidenceMalformed, with(&rig, |o| o.payload.version = 2).sent(&court)),
    ]);

    court.restart_with(&format!("\n[tpm]\ndeny = [{:?}]\n", rig.endorsement().hash()));
    court.refuses(vec![case("10: EK on the deny list", Reason::EkDenied, rig.opening().sent(&court))]);
    assert_eq!(court.node(&bystander.id)["standing"], "good");
}

/// Case 12: the TPM lends its name to a software key, and the genuine AK certifies it.
fn software_ak<'a>(court: &'a Court, rig: &Rig) -> Case<'a> {
    let key = SoftKey::new();
    assert!(key.certify(rig, [7; 32]).is_some(), "demonstration 1 of the threat analysis");
    assert!(!key.loads_as(rig, AK_ATTRIBUTES), "no TPM takes a software key as one of its own");
    let opening = with(rig, |o| o.payload.ak_public = key.public(EXTERNAL));
    case("12: software AK in the TPM", Reason::AkTemplate, opening.sent(court))
}

/// Case 40: the same for the node key.
fn software_node_key<'a>(court: &'a Court, rig: &Rig) -> Case<'a> {
    let key = SoftKey::new();
    let pair = KeyPair::try_from(key.pkcs8.as_slice()).unwrap();
    let csr = CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    let opening = with(rig, |o| (o.payload.node_public, o.csr) = (key.public(EXTERNAL), csr));
    case("40: software node key", Reason::NodekeyTemplate, opening.sent(court))
}

fn csr_of_another_key(rig: &Rig) -> Opening {
    let other = KeyPair::generate().unwrap();
    with(rig, |o| o.csr = CertificateParams::default().serialize_request(&other).unwrap().der().to_vec())
}

fn break_last(opening: &mut Opening) {
    *opening.csr.last_mut().unwrap() ^= 1;
}

fn with(rig: &Rig, change: impl FnOnce(&mut Opening)) -> Opening {
    let mut opening = rig.opening();
    change(&mut opening);
    opening
}

fn certified<'a>(court: &'a Court, rig: &Rig, name: &'a str, reason: Reason, certificate: Vec<u8>) -> Case<'a> {
    let opening = with(rig, |o| o.payload.ek_certificate = certificate);
    case(name, reason, opening.sent(court))
}

fn p224(rig: &Rig) -> Opening {
    let point = [&[4][..], &[1; 56]].concat();
    let spki = [&hex::decode("304e301006072a8648ce3d020106052b81040021033a00").unwrap()[..], &point].concat();
    with(rig, |o| (o.payload.ek_certificate, o.payload.ek_public) = (Vec::new(), spki))
}

fn rig_certificate(rig: &Rig) -> Vec<u8> {
    rig.endorsement().certificate.unwrap()
}

fn until(year: i32) -> Profile {
    Profile { until: year, ..Profile::default() }
}

fn usage(eku: &'static [u64]) -> Profile {
    Profile { eku, ..Profile::default() }
}

fn critical() -> Profile {
    Profile { critical: true, ..Profile::default() }
}

fn ca() -> Profile {
    Profile { ca: true, ..Profile::default() }
}

fn made_by(manufacturer: &'static str) -> Profile {
    Profile { manufacturer, ..Profile::default() }
}

#[test]
fn honest_nodes_join_whatever_else_they_say() {
    let court = Court::open();
    let rig = court.rig("a");
    let mut opening = rig.opening();
    // A field this CA does not know (number 100, "test": true), and a wish for less than is asked of everybody.
    opening.tail = vec![0xa0, 0x06, 0x01];
    opening.payload.activate = false;
    opening.csr = named_csr(&opening);
    let svid = court.run(async {
        let (mut dialogue, asked) = opening.send(&court).await.unwrap();
        assert!(asked.challenge.credential.is_some(), "54: a new node is activated whatever it wishes");
        assert_eq!(asked.challenge.pcrs.clone().unwrap().pcrs, (0..8).collect::<Vec<u32>>());
        let answer = [rig.answer(&opening, &asked).encode_to_vec(), vec![0xa0, 0x06, 0x01]].concat();
        dialogue.admission(answer).await.unwrap()
    });
    let (_, leaf) = x509_parser::parse_x509_certificate(&svid.cert_chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [x509_parser::extensions::GeneralName::URI(&rig.id())]);
    assert!(!leaf.is_ca(), "44: asked for CA:TRUE");
}

/// A CSR of the node key that asks for another SPIFFE ID, a DNS name and CA:TRUE.
fn named_csr(opening: &Opening) -> Vec<u8> {
    struct Key<'a>(&'a Opening);
    impl rcgen::PublicKeyData for Key<'_> {
        fn der_bytes(&self) -> &[u8] {
            self.0.key.point()
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
    impl rcgen::SigningKey for Key<'_> {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.0.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
        }
    }
    let mut params = CertificateParams::new(vec!["admin.example".into()]).unwrap();
    let id = "spiffe://playground.test/spire/server".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(id));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serialize_request(&Key(opening)).unwrap().der().to_vec()
}
