use chancery_attestor::tpm::Signed as Made;
use chancery_core::{
    evidence::tpm::{
        Anchor, Channel, Enrol, OpenChallenge, Payload, Response, Signed, Trust, examine_payload, verify_response,
    },
    transcript,
};
use chancery_daemon::clock;
use chancery_tests::swtpm::{Manufacturer, Swtpm};

use crate::rig::Rig;

const DOMAIN: &str = "flips.test";
const EXPORTER: [u8; 32] = [7; 32];
const MESSAGE: &[u8] = b"challenge";

fn trust(maker: &Manufacturer) -> Trust {
    let pem = std::fs::read(maker.issuer_pem()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let anchor = Anchor::parse(&pem.contents, "id:00001014".parse().unwrap(), None).unwrap();
    Trust {
        anchors: vec![anchor],
        enrol: Enrol::Inventory,
        denied_eks: Default::default(),
        policies: Default::default(),
    }
}

fn signed(made: Made) -> Signed {
    Signed { attest: made.attest, signature: made.signature }
}

/// The parts of a response in which every bit counts.
const PARTS: [(&str, fn(&mut Response) -> &mut Vec<u8>); 4] = [
    ("quote", |r| &mut r.quote.attest),
    ("quote's signature", |r| &mut r.quote.signature),
    ("certification", |r| &mut r.certify.attest),
    ("certification's signature", |r| &mut r.certify.signature),
];

/// Case 29 on what a TPM really signed; without a CA in between, since it is three thousand answers.
#[test]
fn every_flipped_bit_of_what_a_tpm_signed_is_refused() {
    let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
    let maker = Manufacturer::new(&folder.path().join("maker")).unwrap();
    let state = folder.path().join("tpm");
    maker.make(&state).unwrap();
    let rig = Rig::over(Swtpm::start(&state).unwrap(), DOMAIN);
    let opening = rig.opening();
    let payload = Payload {
        version: 1,
        ek_certificate: opening.payload.ek_certificate.clone(),
        ak_public: opening.payload.ak_public.clone(),
        node_public: opening.payload.node_public.clone(),
        ..Payload::default()
    };
    let now = clock::now();
    let applicant = examine_payload(&payload, &opening.csr, &trust(&maker), true, now).unwrap();
    let t1 = transcript::t1("tpm", &opening.bytes(), &opening.csr);
    let base = transcript::base(transcript::LABEL_TPM, DOMAIN, &transcript::t2(&t1, MESSAGE), &EXPORTER);
    let open = OpenChallenge {
        message: MESSAGE.to_vec(),
        t1,
        secret: None,
        ak_known: true,
        pcrs: (0..8).collect(),
        expires_at: now.plus(60),
    };
    let (quote, pcr_values) = rig.tpm.quote(0x000b, (0..8).collect(), transcript::quote_qualifier(&base)).unwrap();
    let certify = rig.tpm.certify(&opening.blob, transcript::certify_qualifier(&base)).unwrap();
    let honest = Response { quote: signed(quote), pcr_values, certify: signed(certify), ..Response::default() };
    let channel = Channel { trust_domain: DOMAIN, exporter: EXPORTER };
    let verdict = |response: &Response| verify_response(&applicant, open.clone(), response, &channel, now);

    verdict(&honest).unwrap_or_else(|denied| panic!("the honest answer: {denied}"));
    let mut tried = 0;
    for (name, part) in PARTS {
        for bit in 0..part(&mut honest.clone()).len() * 8 {
            let mut flipped = honest.clone();
            part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
            assert!(verdict(&flipped).is_err(), "bit {bit} of the {name}");
            tried += 1;
        }
    }
    assert!(tried > 2_400, "{tried}");
}
