//! Valid evidence of keys that play a token's, to break one thing at a time.

use chancery_sdk::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SigningKey,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::{evidence::Denied, transcript};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const DAY: i64 = 86_400;
pub(crate) const DOMAIN: &str = "test.example";
pub(crate) const CHANNEL: Channel<'static> = Channel { trust_domain: DOMAIN, exporter: [0x77; 32] };

/// An operator's enrolment CA.
pub(crate) struct Enroller {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

/// A device certificate to be issued.
pub(crate) struct Profile {
    pub(crate) ca: IsCa,
    pub(crate) usages: Vec<KeyUsagePurpose>,
    pub(crate) extended: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) years: (i32, i32),
    pub(crate) extensions: Vec<CustomExtension>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            ca: IsCa::ExplicitNoCa,
            usages: vec![KeyUsagePurpose::DigitalSignature],
            extended: vec![ExtendedKeyUsagePurpose::ClientAuth],
            years: (2020, 2060),
            extensions: Vec::new(),
        }
    }
}

impl Enroller {
    pub(crate) fn new() -> Self {
        Self::named("Test HSM Enrolment CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn issue(&self, key: &KeyPair, profile: &Profile) -> Vec<u8> {
        params(profile).signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    /// A CA below this one: its issuer and its certificate.
    pub(crate) fn intermediate(&self) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Test HSM Enrolment Site CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// Its list, in force from `span.0` to `span.1` seconds from now, of these certificates (DER).
    pub(crate) fn crl(&self, span: (i64, i64), revoked: &[Vec<u8>]) -> Vec<u8> {
        crl_by(&self.issuer, span, revoked)
    }

    pub(crate) fn trusted(&self) -> EnrolmentCa {
        EnrolmentCa::parse(&self.der).unwrap()
    }
}

pub(crate) fn crl_by(issuer: &Issuer<'_, impl SigningKey>, span: (i64, i64), revoked: &[Vec<u8>]) -> Vec<u8> {
    let at = |secs| OffsetDateTime::from_unix_timestamp(NOW.0 + secs).unwrap();
    let revoked = revoked.iter().map(|der| RevokedCertParams {
        serial_number: X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec().into(),
        revocation_time: at(-DAY),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: at(span.0),
        next_update: at(span.1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().der().to_vec()
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

pub(crate) fn params(profile: &Profile) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("token of node 7");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "HSM-0007");
    params.is_ca = profile.ca;
    params.key_usages = profile.usages.clone();
    params.extended_key_usages = profile.extended.clone();
    params.not_before = rcgen::date_time_ymd(profile.years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(profile.years.1, 12, 31);
    params.custom_extensions = profile.extensions.clone();
    params
}

/// A token, the SVID's key beside it, and the CA's trust, all in order.
pub(crate) struct Sample {
    pub(crate) enroller: Enroller,
    pub(crate) key: KeyPair,
    pub(crate) svid: KeyPair,
    pub(crate) payload: Payload,
    pub(crate) csr: Vec<u8>,
    pub(crate) trust: Trust,
    pub(crate) enrolled: bool,
}

impl Sample {
    /// A registered key and no certificate.
    pub(crate) fn new() -> Self {
        Self::with(KeyPair::generate().unwrap())
    }

    pub(crate) fn with(key: KeyPair) -> Self {
        let (enroller, svid) = (Enroller::new(), KeyPair::generate().unwrap());
        let payload = Payload { version: 1, key: key.subject_public_key_info(), ..Payload::default() };
        let csr = CertificateParams::default().serialize_request(&svid).unwrap().der().to_vec();
        let trust = Trust { enrolment_cas: vec![enroller.trusted()], ..Trust::default() };
        Self { enroller, key, svid, payload, csr, trust, enrolled: true }
    }

    /// A key that nobody registered and the enrolment CA vouches for.
    pub(crate) fn certified(profile: &Profile) -> Self {
        let mut sample = Self::new();
        sample.payload.certificates = vec![sample.enroller.issue(&sample.key, profile)];
        sample.enrolled = false;
        sample
    }

    pub(crate) fn examine(&self) -> Result<Applicant, Denied> {
        examine_payload(&self.payload, &self.csr, &self.trust, self.enrolled, NOW)
    }

    pub(crate) fn challenge(&self, message: &[u8]) -> OpenChallenge {
        let t1 = transcript::t1("pkcs11", b"payload", &self.csr);
        OpenChallenge { message: message.to_vec(), t1, expires_at: NOW.plus(60) }
    }

    pub(crate) fn base(&self, challenge: &OpenChallenge) -> [u8; 32] {
        let t2 = transcript::t2(&challenge.t1, &challenge.message);
        transcript::base(transcript::LABEL_PKCS11, DOMAIN, &t2, &CHANNEL.exporter)
    }

    pub(crate) fn response(&self, challenge: &OpenChallenge) -> Response {
        signed(&self.key, &self.base(challenge))
    }

    pub(crate) fn verify(&self, challenge: OpenChallenge, response: &Response) -> Result<Verified, Denied> {
        verify_response(&self.examine().unwrap(), challenge, response, &CHANNEL, NOW)
    }

    pub(crate) fn verified(&self) -> Verified {
        let challenge = self.challenge(b"challenge");
        let response = self.response(&challenge);
        self.verify(challenge, &response).unwrap()
    }
}

pub(crate) fn signed(key: &KeyPair, message: &[u8]) -> Response {
    Response { signature: key.sign(message).unwrap() }
}
