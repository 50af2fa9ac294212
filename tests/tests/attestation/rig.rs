use std::{cell::RefCell, sync::Arc};

use chancery_attestor::{
    crypto::{MemoryKey, NodeKey, certified, csr},
    tpm::{Bus, EkKind, Endorsement, NodeKeyBlob, Options, Signed, Tpm, TpmKey},
};
use chancery_core::transcript;
use chancery_proto::{
    chancery::{
        attest::tpm::v1 as pb,
        node::v1::{BeginRequest, ProcessFacts, node_client::NodeClient},
    },
    spire::api::types::{Selector, X509svid},
};
use chancery_tests::{
    attestation::{Dialogue, dialer},
    swtpm::Swtpm,
};
use prost::Message;
use ring::hmac;
use rustls::pki_types::CertificateDer;
use tonic::Status;

use crate::court::Court;

/// A machine with a genuine TPM that says whatever a test wants it to say.
pub struct Rig {
    pub swtpm: Swtpm,
    pub tpm: Tpm,
    domain: String,
    /// Which of the TPM's EKs it attests with.
    pub kind: EkKind,
    /// Measured-boot log that it sends.
    pub log: Vec<u8>,
    endorsements: RefCell<Vec<Endorsement>>,
}

/// A node's first words, before they are sent.
#[derive(Clone)]
pub struct Opening {
    pub payload: pb::Payload,
    pub csr: Vec<u8>,
    pub key: Arc<dyn NodeKey>,
    pub blob: NodeKeyBlob,
    /// Bytes sent behind the payload.
    pub tail: Vec<u8>,
}

/// A challenge, and what both sides make of it.
#[derive(Clone)]
pub struct Asked {
    pub challenge: pb::Challenge,
    pub t2: [u8; 32],
    pub base: [u8; 32],
}

/// An admitted node.
pub struct Member {
    pub id: String,
    pub svid: X509svid,
    pub key: Arc<dyn NodeKey>,
    pub instance: String,
}

impl Rig {
    pub fn over(swtpm: Swtpm, domain: &str) -> Self {
        let options = Options {
            tcti: swtpm.tcti().parse().unwrap(),
            trust_domain: domain.into(),
            endorsement_auth: Default::default(),
            owner_auth: Default::default(),
            bus: Bus::Internal,
        };
        let tpm = Tpm::open(options).unwrap();
        let endorsements = RefCell::new(tpm.endorsements().unwrap());
        Self { swtpm, tpm, domain: domain.into(), kind: EkKind::P384, log: Vec::new(), endorsements }
    }

    pub fn endorsement(&self) -> Endorsement {
        self.endorsements.borrow().iter().find(|e| e.kind == self.kind).unwrap().clone()
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub fn id(&self) -> String {
        format!("spiffe://{}/spire/agent/tpm/{}", self.domain, self.endorsement().hash())
    }

    /// An honest opening that asks for activation.
    pub fn opening(&self) -> Opening {
        let blob = self.tpm.new_node_key().unwrap();
        let key = TpmKey::new(self.tpm.clone(), blob.clone()).unwrap();
        let payload = pb::Payload {
            version: 1,
            ek_certificate: self.endorsement().certificate.unwrap(),
            ak_public: self.tpm.attestation_key().unwrap(),
            node_public: blob.public.clone(),
            activate: true,
            ..pb::Payload::default()
        };
        let csr = csr(key.as_ref()).unwrap();
        Opening { payload, csr, key, blob, tail: Vec::new() }
    }

    /// An opening of a node that is known and wants no activation.
    pub fn renewal(&self) -> Opening {
        let mut opening = self.opening();
        opening.payload.activate = false;
        opening
    }

    /// The honest answer.
    pub fn answer(&self, opening: &Opening, asked: &Asked) -> pb::Response {
        let pcrs = asked.challenge.pcrs.clone().unwrap_or_default().pcrs;
        let pcrs = pcrs.into_iter().map(|pcr| u8::try_from(pcr).unwrap()).collect();
        let (quote, pcr_values) = self.tpm.quote(0x000b, pcrs, transcript::quote_qualifier(&asked.base)).unwrap();
        pb::Response {
            proof: self.proof(asked),
            quote: wire(quote),
            pcr_values,
            certify: wire(self.certify(opening, asked)),
            event_log: self.log.clone(),
            pkcs11: None,
        }
    }

    pub fn certify(&self, opening: &Opening, asked: &Asked) -> Signed {
        self.tpm.certify(&opening.blob, transcript::certify_qualifier(&asked.base)).unwrap()
    }

    /// The secret that only this TPM can take out of the challenge.
    pub fn secret(&self, asked: &Asked) -> Vec<u8> {
        let credential = asked.challenge.credential.clone().unwrap();
        self.tpm.activate(self.kind, credential.id_object, credential.encrypted_secret).unwrap().to_vec()
    }

    pub fn proof(&self, asked: &Asked) -> Vec<u8> {
        if asked.challenge.credential.is_none() { Vec::new() } else { asked.proof(&self.secret(asked)) }
    }

    /// Opens, answers with whatever `alter` makes of the honest answer.
    pub async fn exchange(
        &self,
        court: &Court,
        opening: Opening,
        alter: impl FnOnce(&Opening, &Asked, &mut pb::Response),
    ) -> Result<X509svid, Status> {
        let (mut dialogue, asked) = opening.send(court).await?;
        let mut response = self.answer(&opening, &asked);
        alter(&opening, &asked, &mut response);
        dialogue.admission(response.encode_to_vec()).await
    }

    pub async fn attest(&self, court: &Court) -> Result<Member, Status> {
        let opening = self.opening();
        let key = Arc::clone(&opening.key);
        let svid = self.exchange(court, opening, |_, _, _| {}).await?;
        Ok(Member { id: self.id(), svid, key, instance: String::new() })
    }
}

impl Opening {
    /// Sends the opening on a connection of its own and reads the challenge.
    pub async fn send(&self, court: &Court) -> Result<(Dialogue, Asked), Status> {
        let play = &court.playground;
        let mut dialogue = Dialogue::open(&play.authority, &play.trust_domain, self.bytes(), self.csr.clone()).await?;
        let asked = self.asked(&mut dialogue, &play.trust_domain).await?;
        Ok((dialogue, asked))
    }

    /// Sends the opening, and is challenged or refused.
    pub async fn sent(self, court: &Court) -> Result<(), Status> {
        self.send(court).await.map(drop)
    }

    /// Reads the challenge of a dialogue that this opening began.
    pub async fn asked(&self, dialogue: &mut Dialogue, domain: &str) -> Result<Asked, Status> {
        let message = dialogue.challenge().await?;
        let t2 = transcript::t2(&transcript::t1("tpm", &self.bytes(), &self.csr), &message);
        let base = transcript::base(transcript::LABEL_TPM, domain, &t2, &dialogue.exporters.tpm);
        Ok(Asked { challenge: pb::Challenge::decode(message.as_slice()).unwrap(), t2, base })
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.payload.encode_to_vec(), self.tail.clone()].concat()
    }
}

impl Asked {
    pub fn proof(&self, secret: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&key, &transcript::activation_message(&self.base)).as_ref().to_vec()
    }
}

impl Member {
    /// Begins an instance of `class` over mTLS with this node's SVID.
    pub async fn begin(&self, court: &Court, class: &str) -> String {
        self.try_begin(court, class).await.unwrap()
    }

    pub async fn try_begin(&self, court: &Court, class: &str) -> Result<String, Status> {
        let play = &court.playground;
        let dialer = Arc::new(dialer(&play.authority, &play.trust_domain, &play.authority.grpc.to_string()).unwrap());
        let chain = self.svid.cert_chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let channel = dialer.line(certified(chain, Arc::clone(&self.key))).unwrap().channel().await.unwrap();
        let key = MemoryKey::generate().unwrap();
        let request = BeginRequest {
            class_name: class.into(),
            start_token: ring::digest::digest(&ring::digest::SHA256, key.pkcs8()).as_ref().to_vec(),
            csr: csr(&key).unwrap(),
            selectors: vec![Selector { r#type: "unix".into(), value: "uid:4711".into() }],
            process: Some(ProcessFacts { pid: 1, uid: 4711, pid_proof: "peer-pidfd".into(), ..Default::default() }),
        };
        Ok(NodeClient::new(channel).begin(request).await?.into_inner().instance_id)
    }
}

pub fn wire(signed: Signed) -> Option<pb::Signed> {
    Some(pb::Signed { attest: signed.attest, signature: signed.signature })
}
