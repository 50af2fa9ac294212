use std::sync::Arc;

use chancery_core::transcript::{self, Exporters};
use chancery_daemon::pkcs11::TokenKey;
use chancery_proto::chancery::attest::pkcs11::v1 as wire;
use prost::Message;
use tokio::task::spawn_blocking;

use super::{CollectError, Ending, Opening};
use crate::{
    crypto::{AnyNodeKey, MemoryKey, csr},
    pkcs11::NodeToken,
    state::SavedKey,
};

/// Attestation type.
const KIND: &str = "pkcs11";
/// Largest challenge; a genuine one has 40 bytes.
const MAX_CHALLENGE_BYTES: usize = 256;
/// Of the CA's nonce, exactly.
const NONCE_BYTES: usize = 32;

/// Proves the node by a key in its token.
pub struct Pkcs11Collector {
    token: NodeToken,
    /// The attestation key and the saved form of the SVID key of the opening under way.
    under_way: Option<(TokenKey, SavedKey)>,
}

impl Pkcs11Collector {
    /// A collector over an open token.
    pub fn new(token: NodeToken) -> Self {
        Self { token, under_way: None }
    }

    pub(super) async fn open(&mut self) -> Result<Opening, CollectError> {
        let token = self.token.clone();
        let (opening, key) = spawn_blocking(move || open(&token)).await.map_err(|e| died(&e))??;
        self.under_way = Some((key, opening.saved_key.clone()));
        Ok(opening)
    }

    pub(super) async fn answer(
        &mut self,
        opening: &Opening,
        challenge: &[u8],
        exporters: &Exporters,
    ) -> Result<Vec<u8>, CollectError> {
        check(challenge).map_err(CollectError::Challenge)?;
        let Some((key, _)) = self.under_way.clone() else {
            return Err(CollectError::Challenge("it came before the opening".into()));
        };
        let t1 = transcript::t1(KIND, &opening.payload, &opening.csr);
        let t2 = transcript::t2(&t1, challenge);
        let (token, exporter) = (self.token.clone(), exporters.pkcs11);
        let response = spawn_blocking(move || token.prove(&key, &t2, &exporter)).await.map_err(|e| died(&e))??;
        Ok(response.encode_to_vec())
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        let under_way = self.under_way.take();
        if let (Ending::Admitted, Some((_, SavedKey::Token { label, .. }))) = (ending, under_way) {
            self.token.holds(&label);
        }
    }
}

fn open(token: &NodeToken) -> Result<(Opening, TokenKey), CollectError> {
    let attestation = token.attestation_key()?;
    let payload = token.payload(&attestation)?.encode_to_vec();
    let (key, saved_key): (AnyNodeKey, SavedKey) = if token.keeps_svid_keys() {
        let (key, saved) = token.new_svid_key(&attestation)?;
        (Arc::new(key), saved)
    } else {
        let key = MemoryKey::generate()?;
        let saved = SavedKey::Pkcs8(zeroize::Zeroizing::new(key.pkcs8().to_vec()));
        (Arc::new(key), saved)
    };
    let csr = csr(key.as_ref())?;
    Ok((Opening { payload, csr, key, saved_key }, attestation))
}

/// Whether a genuine CA might send it: nothing else is signed for.
fn check(challenge: &[u8]) -> Result<(), String> {
    if challenge.len() > MAX_CHALLENGE_BYTES {
        return Err(format!("{} bytes exceed {MAX_CHALLENGE_BYTES} bytes", challenge.len()));
    }
    let challenge = wire::Challenge::decode(challenge).map_err(|e| e.to_string())?;
    if challenge.nonce.len() != NONCE_BYTES {
        return Err(format!("its nonce is {} bytes, not {NONCE_BYTES}", challenge.nonce.len()));
    }
    Ok(())
}

fn died(error: &tokio::task::JoinError) -> CollectError {
    CollectError::Challenge(format!("the work on it ended: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_challenge_that_a_ca_might_send_is_signed_for() {
        let challenge = |nonce: Vec<u8>| wire::Challenge { nonce, expires_in: 60 }.encode_to_vec();
        assert_eq!(check(&challenge(vec![7; 32])), Ok(()));
        for bad in [challenge(vec![7; 31]), challenge(vec![7; 33]), Vec::new(), vec![0xff; 20], vec![0; 257]] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
