use std::sync::Arc;

use chancery_attestor::crypto::{MemoryKey, NodeKey, csr};
use chancery_core::transcript;
use chancery_proto::{chancery::attest::pkcs11::v1 as pb, spire::api::types::X509svid};
use chancery_tests::attestation::{Dialogue, dialer};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SigningKey,
};
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;
use tonic::Status;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{court::Court, rig::Member};

/// A key that plays a token's, and says whatever a test wants it to say.
pub struct TokenRig {
    pub key: KeyPair,
    pub certificates: Vec<Vec<u8>>,
    pub vendor: Vec<pb::VendorEvidence>,
    domain: String,
}

/// A token's first words, before they are sent.
#[derive(Clone)]
pub struct TokenOpening {
    pub payload: pb::Payload,
    pub csr: Vec<u8>,
    pub svid: Arc<dyn NodeKey>,
}

/// A challenge, and what both sides make of it.
pub struct TokenAsked {
    /// Exactly as it came.
    pub message: Vec<u8>,
    pub nonce: Vec<u8>,
    pub t2: [u8; 32],
    pub exporter: [u8; 32],
    pub base: [u8; 32],
}

/// An operator's CA that vouches for keys.
pub struct EnrolmentCa {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: Vec<u8>,
}

impl EnrolmentCa {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Token Enrolment CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// A good device certificate, altered.
    pub fn issue(&self, key: &KeyPair, alter: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        alter(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    /// A list, PEM, in force within `span`, of these certificates (DER).
    pub fn crl(&self, span: (OffsetDateTime, OffsetDateTime), revoked: &[Vec<u8>]) -> String {
        let revoked = revoked.iter().map(|der| RevokedCertParams {
            serial_number: X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec().into(),
            revocation_time: span.0,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: span.0,
            next_update: span.1,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A CA below this one.
    pub fn below(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Token Enrolment Site CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }
}

impl TokenRig {
    /// A key that nobody enrolled.
    pub fn new(court: &Court) -> Self {
        let domain = court.playground.trust_domain.clone();
        Self { key: KeyPair::generate().unwrap(), certificates: Vec::new(), vendor: Vec::new(), domain }
    }

    /// A key whose hash is enrolled.
    pub fn enrolled(court: &Court) -> Self {
        let rig = Self::new(court);
        rig.enrol(court);
        rig
    }

    pub fn enrol(&self, court: &Court) {
        court.ca_told(&["node", "enrol", "--key", &self.hash()], "key.enrolled");
    }

    pub fn hash(&self) -> String {
        hex::encode(digest(&SHA256, &self.key.subject_public_key_info()))
    }

    pub fn id(&self) -> String {
        format!("spiffe://{}/spire/agent/pkcs11/{}", self.domain, self.hash())
    }

    pub fn opening(&self) -> TokenOpening {
        let svid = MemoryKey::generate().unwrap();
        let csr = csr(&svid).unwrap();
        TokenOpening { payload: self.section(), csr, svid: Arc::new(svid) }
    }

    /// What it sends of itself, alone or beside a TPM.
    pub fn section(&self) -> pb::Payload {
        let (key, certificates) = (self.key.subject_public_key_info(), self.certificates.clone());
        pb::Payload { version: 1, key, certificates, vendor: self.vendor.clone() }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }

    /// Opens, and answers with whatever `signature` makes of the challenge.
    pub async fn exchange(
        &self,
        court: &Court,
        opening: TokenOpening,
        signature: impl FnOnce(&TokenAsked) -> Vec<u8>,
    ) -> Result<X509svid, Status> {
        let (mut dialogue, asked) = opening.send(court).await?;
        dialogue.admission(pb::Response { signature: signature(&asked) }.encode_to_vec()).await
    }

    pub async fn attest(&self, court: &Court) -> Result<Member, Status> {
        let opening = self.opening();
        let key = Arc::clone(&opening.svid);
        let svid = self.exchange(court, opening, |asked| self.sign(&asked.base)).await?;
        Ok(Member { id: self.id(), svid, key, instance: String::new() })
    }

    /// Attests honestly and waits for the record.
    pub fn admit(&self, court: &Court) -> Member {
        let mark = court.timeline.newest();
        let member = court.run(self.attest(court)).unwrap_or_else(|status| panic!("an honest token: {status}"));
        court.wait(mark, "node.attested", |e| e.kind == "node.attested" && e.subject == member.id);
        member
    }
}

impl TokenOpening {
    pub async fn send(&self, court: &Court) -> Result<(Dialogue, TokenAsked), Status> {
        let play = &court.playground;
        let dialer = dialer(&play.authority, &play.trust_domain, &play.authority.grpc.to_string())?;
        let pinned = dialer.pinned().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut dialogue = Dialogue::over(pinned, "pkcs11", self.payload.encode_to_vec(), self.csr.clone()).await?;
        let asked = self.asked(&mut dialogue, &play.trust_domain).await?;
        Ok((dialogue, asked))
    }

    /// Sends the opening, and is challenged or refused.
    pub async fn sent(self, court: &Court) -> Result<(), Status> {
        self.send(court).await.map(drop)
    }

    /// Reads the challenge of a dialogue that this opening began.
    pub async fn asked(&self, dialogue: &mut Dialogue, domain: &str) -> Result<TokenAsked, Status> {
        let message = dialogue.challenge().await?;
        let t2 = self.t2(&message);
        let exporter = dialogue.exporters.pkcs11;
        let base = transcript::base(transcript::LABEL_PKCS11, domain, &t2, &exporter);
        let nonce = pb::Challenge::decode(message.as_slice()).unwrap().nonce;
        Ok(TokenAsked { message, nonce, t2, exporter, base })
    }

    /// What a token signs that answers `asked` as if this opening had been sent.
    pub fn base_of(&self, domain: &str, asked: &TokenAsked) -> [u8; 32] {
        transcript::base(transcript::LABEL_PKCS11, domain, &self.t2(&asked.message), &asked.exporter)
    }

    fn t2(&self, challenge: &[u8]) -> [u8; 32] {
        transcript::t2(&transcript::t1("pkcs11", &self.payload.encode_to_vec(), &self.csr), challenge)
    }
}
