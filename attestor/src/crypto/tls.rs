use std::sync::Arc;

use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    sign::{CertifiedKey, Signer, SigningKey},
};
use rustls_pki_types::CertificateDer;

use super::AnyNodeKey;

/// A chain and its key as rustls takes them. The key signs inside the handshake: drive that on a blocking thread.
pub fn certified(chain: Vec<CertificateDer<'static>>, key: AnyNodeKey) -> Arc<CertifiedKey> {
    Arc::new(CertifiedKey::new(chain, Arc::new(Held(key))))
}

#[derive(Debug)]
struct Held(AnyNodeKey);

impl SigningKey for Held {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let ours = SignatureScheme::ECDSA_NISTP256_SHA256;
        offered.contains(&ours).then(|| Box::new(Held(Arc::clone(&self.0))) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Held {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message).map_err(|e| Error::General(e.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
