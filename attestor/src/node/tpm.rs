use std::path::PathBuf;

use chancery_core::transcript::{self, Exporters};
use chancery_daemon::pkcs11::TokenKey;
use chancery_proto::chancery::attest::{pkcs11::v1 as pkcs11, tpm::v1 as wire};
use chancery_sdk::id::TrustDomain;
use prost::Message;
use ring::hmac;
use tokio::task::spawn_blocking;

use super::{CollectError, Ending, Opening};
use crate::{
    crypto::csr,
    pkcs11::NodeToken,
    state::SavedKey,
    tpm::{Endorsement, NodeKeyBlob, Tpm, TpmError, TpmKey},
};

mod challenge;

use challenge::Asked;

/// Attestation type.
const KIND: &str = "tpm";
/// Version of the exchange.
const VERSION: u32 = 1;
/// Largest measured-boot log that is sent; the CA takes no more.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// Proves the node by its TPM: EK and AK by activation, the boot by a quote, the node key by a certification.
pub struct TpmCollector {
    tpm: Tpm,
    domain: TrustDomain,
    event_log: PathBuf,
    /// Read once: an EK does not change.
    endorsement: Option<Endorsement>,
    /// Asks for activation: after a start, and after a refusal.
    activate: bool,
    /// The key of the opening under way.
    key: Option<NodeKeyBlob>,
    /// A token that proves itself beside the TPM, and its key in the opening under way.
    token: Option<(NodeToken, Option<TokenKey>)>,
}

impl TpmCollector {
    /// A collector over an open TPM.
    pub fn new(tpm: Tpm, domain: TrustDomain, event_log: PathBuf) -> Self {
        Self { tpm, domain, event_log, endorsement: None, activate: true, key: None, token: None }
    }

    /// The same, with a token that proves itself beside the TPM.
    #[must_use]
    pub fn beside(self, token: NodeToken) -> Self {
        Self { token: Some((token, None)), ..self }
    }

    pub(super) async fn open(&mut self) -> Result<Opening, CollectError> {
        let known = self.endorsement.take();
        let tpm = self.tpm.clone();
        let made =
            spawn_blocking(move || Made::by(tpm, known)).await.map_err(|e| TpmError::Nonsense(e.to_string()))??;
        let Made { endorsement, ak_public, key, csr } = made;
        let blob = key.blob().clone();
        let pkcs11 = match &mut self.token {
            Some((token, under_way)) => {
                let token = token.clone();
                let asked = spawn_blocking(move || token_section(&token)).await;
                let (section, key) = asked.map_err(|e| TpmError::Nonsense(e.to_string()))??;
                *under_way = Some(key);
                Some(section)
            }
            None => None,
        };
        let payload = wire::Payload {
            version: VERSION,
            ek_certificate: endorsement.certificate.clone().unwrap_or_default(),
            ek_public: if endorsement.certificate.is_none() { endorsement.spki.clone() } else { Vec::new() },
            ek_intermediates: Vec::new(),
            ak_public,
            node_public: blob.public.clone(),
            activate: self.activate,
            has_log: self.event_log.exists(),
            pkcs11,
        };
        let saved_key = SavedKey::Tpm { private: blob.private.clone(), public: blob.public.clone() };
        self.endorsement = Some(endorsement);
        self.key = Some(blob);
        Ok(Opening { payload: payload.encode_to_vec(), csr, key, saved_key })
    }

    pub(super) async fn answer(
        &mut self,
        opening: &Opening,
        challenge: &[u8],
        exporters: &Exporters,
    ) -> Result<Vec<u8>, CollectError> {
        let asked = Asked::parse(challenge).map_err(CollectError::Challenge)?;
        let (Some(key), Some(endorsement)) = (self.key.clone(), self.endorsement.as_ref()) else {
            return Err(CollectError::Challenge("it came before the opening".into()));
        };
        let t1 = transcript::t1(KIND, &opening.payload, &opening.csr);
        let t2 = transcript::t2(&t1, challenge);
        let base = transcript::base(transcript::LABEL_TPM, self.domain.name(), &t2, &exporters.tpm);
        let event_log = if asked.log_wanted { read_log(&self.event_log) } else { Vec::new() };
        let (tpm, kind, token) = (self.tpm.clone(), endorsement.kind, self.token.clone());
        let exporter = exporters.pkcs11;
        let prove = move || -> Result<wire::Response, CollectError> {
            // The TPM's part is fresh for longer than a token's deadline, so the order is of no weight.
            let pkcs11 = match &token {
                Some((token, Some(key))) => Some(token.prove(key, &t2, &exporter)?),
                Some((_, None)) | None => None,
            };
            let proof = match asked.credential {
                None => Vec::new(),
                Some((id_object, secret)) => {
                    let secret = tpm.activate(kind, id_object, secret)?;
                    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                    hmac::sign(&key, &transcript::activation_message(&base)).as_ref().to_vec()
                }
            };
            let (quote, pcr_values) = tpm.quote(asked.bank, asked.pcrs, transcript::quote_qualifier(&base))?;
            let certify = tpm.certify(&key, transcript::certify_qualifier(&base))?;
            let signed = |s: crate::tpm::Signed| Some(wire::Signed { attest: s.attest, signature: s.signature });
            let (quote, certify) = (signed(quote), signed(certify));
            Ok(wire::Response { proof, quote, pcr_values, certify, event_log, pkcs11 })
        };
        let response = spawn_blocking(prove).await.map_err(|e| TpmError::Nonsense(e.to_string()))??;
        Ok(response.encode_to_vec())
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        self.key = None;
        if let Some((_, under_way)) = &mut self.token {
            *under_way = None;
        }
        self.activate = ending != Ending::Admitted;
    }
}

/// The token's section of an opening.
fn token_section(token: &NodeToken) -> Result<(pkcs11::Payload, TokenKey), CollectError> {
    let key = token.attestation_key()?;
    Ok((token.payload(&key)?, key))
}

/// What the TPM makes for an opening.
struct Made {
    endorsement: Endorsement,
    ak_public: Vec<u8>,
    key: std::sync::Arc<TpmKey>,
    csr: Vec<u8>,
}

impl Made {
    fn by(tpm: Tpm, known: Option<Endorsement>) -> Result<Self, CollectError> {
        let endorsement = match known {
            Some(endorsement) => endorsement,
            None => preferred(&tpm)?,
        };
        let ak_public = tpm.attestation_key()?;
        let blob = tpm.new_node_key()?;
        let key = TpmKey::new(tpm, blob)?;
        let csr = csr(key.as_ref())?;
        Ok(Self { endorsement, ak_public, key, csr })
    }
}

fn preferred(tpm: &Tpm) -> Result<Endorsement, TpmError> {
    let all = tpm.endorsements()?;
    all.into_iter().next().ok_or_else(|| TpmError::Nonsense("it has no endorsement key".into()))
}

/// The log, or nothing where it cannot be read: the CA's policy says whether that will do.
fn read_log(path: &std::path::Path) -> Vec<u8> {
    use std::io::Read;
    let mut log = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_LOG_BYTES + 1).read_to_end(&mut log));
    let too_large = u64::try_from(log.len()).is_ok_and(|len| len > MAX_LOG_BYTES);
    match read {
        Ok(_) if !too_large => log,
        Ok(_) => {
            tracing::warn!(file = %path.display(), "the measured-boot log exceeds {MAX_LOG_BYTES} bytes and is not sent");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the measured-boot log cannot be read and is not sent");
            Vec::new()
        }
    }
}
