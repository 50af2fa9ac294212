use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};

use super::{NodeKey, SignError};

/// A PKCS#10 request for `key`, DER, with no subject and no names: the CA takes the key and the proof, nothing else.
///
/// Blocks while the key signs.
///
/// # Errors
/// [`SignError`].
pub fn csr(key: &dyn NodeKey) -> Result<Vec<u8>, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&Request(key)).map_err(|e| SignError(e.to_string()))?;
    Ok(request.der().to_vec())
}

/// What rcgen wants of a key.
struct Request<'a>(&'a dyn NodeKey);

impl PublicKeyData for Request<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Request<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MemoryKey;

    #[test]
    fn a_csr_proves_possession_and_names_nothing() {
        let key = MemoryKey::generate().unwrap();
        let csr = chancery_core::csr::Csr::parse(&csr(&key).unwrap()).unwrap();
        assert!(csr.spki_der().ends_with(key.point()));
    }
}
