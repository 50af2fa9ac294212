//! Keys of our own: P-256, as nodes and workloads have them.

use std::sync::Arc;

use chancery_sdk::tls::provider;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A new key and a CSR for it, DER; the key is dropped, for whoever only wants something signed.
///
/// # Errors
/// The provider has no randomness.
pub fn csr() -> Result<Vec<u8>, String> {
    node_key().map(|(_, csr)| csr)
}

/// A new key and a CSR for it, DER, with the subject SPIRE's agent writes and no name asked for.
///
/// # Errors
/// As [`csr`].
pub(super) fn node_key() -> Result<(KeyPair, Vec<u8>), String> {
    let say = |e: rcgen::Error| format!("cannot make a key: {e}");
    let key = KeyPair::generate().map_err(say)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::OrganizationName, "SPIRE");
    let csr = params.serialize_request(&key).map_err(say)?.der().to_vec();
    Ok((key, csr))
}

/// A chain (DER, leaf first) and its key, ready for TLS.
///
/// # Errors
/// The provider does not take the key.
pub fn certified(chain: Vec<Vec<u8>>, key: &KeyPair) -> Result<Arc<CertifiedKey>, String> {
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer =
        provider().key_provider.load_private_key(der).map_err(|e| format!("a fresh key does not load: {e}"))?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(Arc::new(CertifiedKey::new(chain, signer)))
}
