//! Valid evidence made with software keys that play the TPM, to break one thing at a time.

use std::collections::BTreeSet;

use chancery_sdk::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

use super::{names::Name, *};
use crate::{crypto::sha256, evidence::Denied, policy::PolicySet, transcript};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const DOMAIN: &str = "test.example";
pub(crate) const CHANNEL: Channel<'static> = Channel { trust_domain: DOMAIN, exporter: [0x77; 32] };
pub(crate) const SECRET: [u8; 32] = [0x42; 32];
pub(crate) const IFX: &[u8] = b"id:49465800";

/// A P-256 key playing a key inside the TPM.
pub(crate) struct SoftKey(pub(crate) EcdsaKeyPair);

impl SoftKey {
    pub(crate) fn new() -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap())
    }

    pub(crate) fn point(&self) -> (Vec<u8>, Vec<u8>) {
        let sec1 = self.0.public_key().as_ref();
        (sec1[1..33].to_vec(), sec1[33..].to_vec())
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        let (x, y) = self.point();
        templates::attestation_key_public(&x, &y)
    }

    pub(crate) fn sign(&self, attest: Vec<u8>) -> Signed {
        let raw = self.0.sign(&SystemRandom::new(), &attest).unwrap();
        let mut signature = vec![0, 0x18, 0, 0x0b, 0, 32];
        signature.extend(&raw.as_ref()[..32]);
        signature.extend([0, 32]);
        signature.extend(&raw.as_ref()[32..]);
        Signed { attest, signature }
    }
}

/// A TPMS_ATTEST to be written.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) signer: Vec<u8>,
    pub(crate) extra: Vec<u8>,
    pub(crate) clock: u64,
    pub(crate) reset: u32,
    pub(crate) restart: u32,
    pub(crate) safe: u8,
    pub(crate) firmware: u64,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

impl Fields {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend(self.kind.to_be_bytes());
        out.extend(sized(&self.signer));
        out.extend(sized(&self.extra));
        out.extend(self.clock.to_be_bytes());
        out.extend(self.reset.to_be_bytes());
        out.extend(self.restart.to_be_bytes());
        out.push(self.safe);
        out.extend(self.firmware.to_be_bytes());
        out.extend(&self.body);
        out
    }
}

/// TPML_PCR_SELECTION of (bank, PCRs), then the digest.
pub(crate) fn quote_body(banks: &[(u16, &[u32])], digest: &[u8]) -> Vec<u8> {
    let mut out = (banks.len() as u32).to_be_bytes().to_vec();
    for (bank, pcrs) in banks {
        let mut bits = [0u8; 3];
        pcrs.iter().for_each(|pcr| bits[*pcr as usize / 8] |= 1 << (pcr % 8));
        out.extend(bank.to_be_bytes());
        out.push(3);
        out.extend(bits);
    }
    out.extend(sized(digest));
    out
}

/// DER of one TLV; contents below 128 bytes.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, content.len() as u8], content].concat()
}

/// subjectAltName with one directory name; rows are (last arc below 2.23.133.2, text).
pub(crate) fn san(rows: &[(u8, &[u8])]) -> Vec<u8> {
    let sets: Vec<u8> = rows
        .iter()
        .flat_map(|(arc, text)| {
            let oid = tlv(6, &[0x67, 0x81, 0x05, 0x02, *arc]);
            tlv(0x31, &tlv(0x30, &[oid, tlv(0x0c, text)].concat()))
        })
        .collect();
    tlv(0x30, &tlv(0xa4, &tlv(0x30, &sets)))
}

/// An EK certificate to be issued.
pub(crate) struct EkProfile {
    pub(crate) san: Vec<(u8, &'static [u8])>,
    pub(crate) eku: Vec<Vec<u64>>,
    pub(crate) ca: bool,
    pub(crate) usage: KeyUsagePurpose,
    pub(crate) years: (i32, i32),
    pub(crate) extension: Option<CustomExtension>,
}

impl Default for EkProfile {
    fn default() -> Self {
        Self {
            san: vec![(1, IFX), (2, b"SLB9672"), (3, b"id:0F08")],
            eku: vec![vec![2, 23, 133, 8, 1]],
            ca: false,
            usage: KeyUsagePurpose::KeyAgreement,
            years: (2020, 9999),
            extension: None,
        }
    }
}

/// A manufacturer's issuing CA.
pub(crate) struct Maker {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test TPM Issuing CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn issue(&self, ek: &KeyPair, profile: &EkProfile) -> Vec<u8> {
        profile_params(profile).signed_by(ek, &self.issuer).unwrap().der().to_vec()
    }

    /// A CA below this one: its issuer and its certificate.
    pub(crate) fn intermediate(&self, key: KeyPair) -> (Issuer<'static, KeyPair>, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test TPM Intermediate CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (Issuer::new(params, key), der)
    }

    pub(crate) fn anchor(&self) -> Anchor {
        Anchor::parse(&self.der, "IFX".parse().unwrap(), None).unwrap()
    }
}

pub(crate) fn profile_params(profile: &EkProfile) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = if profile.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.key_usages = vec![profile.usage];
    params.extended_key_usages = profile.eku.iter().cloned().map(ExtendedKeyUsagePurpose::Other).collect();
    params.not_before = rcgen::date_time_ymd(profile.years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(profile.years.1, 12, 31);
    let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 17], san(&profile.san));
    names.set_criticality(true);
    params.custom_extensions = if profile.san.is_empty() { vec![] } else { vec![names] };
    params.custom_extensions.extend(profile.extension.clone());
    params
}

/// A node, its manufacturer and the CA's trust, all in order.
pub(crate) struct Sample {
    pub(crate) maker: Maker,
    pub(crate) ek: KeyPair,
    pub(crate) ak: SoftKey,
    pub(crate) node: KeyPair,
    pub(crate) payload: Payload,
    pub(crate) csr: Vec<u8>,
    pub(crate) trust: Trust,
    pub(crate) pcrs: Vec<(u32, [u8; 32])>,
    pub(crate) log: Vec<u8>,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let (maker, ek, ak, node) =
            (Maker::new(), KeyPair::generate().unwrap(), SoftKey::new(), KeyPair::generate().unwrap());
        let sec1 = node.public_key_raw();
        let payload = Payload {
            version: 1,
            ek_certificate: maker.issue(&ek, &EkProfile::default()),
            ak_public: ak.public(),
            node_public: templates::node_key_public(&sec1[1..33], &sec1[33..]),
            ..Payload::default()
        };
        let csr = CertificateParams::default().serialize_request(&node).unwrap().der().to_vec();
        let trust = Trust {
            anchors: vec![maker.anchor()],
            enrol: Enrol::Inventory,
            denied_eks: BTreeSet::new(),
            policies: PolicySet::default(),
        };
        let pcrs = (0..8).map(|pcr| (pcr, [pcr as u8 + 1; 32])).collect();
        Self { maker, ek, ak, node, payload, csr, trust, pcrs, log: Vec::new() }
    }

    pub(crate) fn examine(&self) -> Result<Applicant, Denied> {
        examine_payload(&self.payload, &self.csr, &self.trust, true, NOW)
    }

    pub(crate) fn challenge(&self, message: &[u8]) -> OpenChallenge {
        OpenChallenge {
            message: message.to_vec(),
            t1: transcript::t1("tpm", b"payload", &self.csr),
            secret: Some(Zeroizing::new(SECRET)),
            ak_known: false,
            pcrs: self.pcrs.iter().map(|(pcr, _)| *pcr).collect(),
            expires_at: NOW.plus(60),
        }
    }

    pub(crate) fn base(&self, challenge: &OpenChallenge) -> [u8; 32] {
        let t2 = transcript::t2(&challenge.t1, &challenge.message);
        transcript::base(transcript::LABEL_TPM, DOMAIN, &t2, &CHANNEL.exporter)
    }

    pub(crate) fn signer(&self) -> Name {
        names::endorsement_primary(&names::name(&self.payload.ak_public))
    }

    pub(crate) fn quote(&self, challenge: &OpenChallenge) -> Fields {
        let values: Vec<&[u8]> = self.pcrs.iter().map(|(_, value)| value.as_slice()).collect();
        let list: Vec<u32> = self.pcrs.iter().map(|(pcr, _)| *pcr).collect();
        Fields {
            magic: constants::GENERATED,
            kind: constants::ST_ATTEST_QUOTE,
            signer: self.signer().to_vec(),
            extra: transcript::quote_qualifier(&self.base(challenge)).to_vec(),
            clock: 1000,
            reset: 4,
            restart: 1,
            safe: 1,
            firmware: 0x0007_0055_11cb_0000,
            body: quote_body(&[(constants::ALG_SHA256, &list)], &sha256(&values)),
        }
    }

    pub(crate) fn certify(&self, challenge: &OpenChallenge) -> Fields {
        let name = names::name(&self.payload.node_public);
        Fields {
            kind: constants::ST_ATTEST_CERTIFY,
            extra: transcript::certify_qualifier(&self.base(challenge)).to_vec(),
            clock: 1001,
            body: [sized(&name), sized(&[0; 34])].concat(),
            ..self.quote(challenge)
        }
    }

    pub(crate) fn proof(&self, challenge: &OpenChallenge) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
        hmac::sign(&key, &transcript::activation_message(&self.base(challenge))).as_ref().to_vec()
    }

    pub(crate) fn response(&self, challenge: &OpenChallenge) -> Response {
        Response {
            proof: if challenge.secret.is_some() { self.proof(challenge) } else { Vec::new() },
            quote: self.ak.sign(self.quote(challenge).bytes()),
            pcr_values: self.pcrs.iter().map(|(_, value)| value.to_vec()).collect(),
            certify: self.ak.sign(self.certify(challenge).bytes()),
            event_log: self.log.clone(),
        }
    }

    pub(crate) fn verify(&self, challenge: OpenChallenge, response: &Response) -> Result<Verified, Denied> {
        verify_response(&self.examine().unwrap(), challenge, response, &CHANNEL, NOW)
    }

    /// Valid evidence with whatever boot state the quote is given.
    pub(crate) fn verified(&self, activated: bool, change: impl Fn(&mut Fields)) -> Verified {
        let mut challenge = self.challenge(b"challenge");
        if !activated {
            (challenge.secret, challenge.ak_known) = (None, true);
        }
        let mut response = self.response(&challenge);
        let (mut quote, mut certify) = (self.quote(&challenge), self.certify(&challenge));
        change(&mut quote);
        let body = std::mem::take(&mut certify.body);
        let extra = certify.extra.clone();
        certify = Fields { kind: certify.kind, extra, body, ..quote.clone() };
        response.quote = self.ak.sign(quote.bytes());
        response.certify = self.ak.sign(certify.bytes());
        self.verify(challenge, &response).unwrap()
    }
}
