use chancery_daemon::config::ConfigError;
use chancery_sdk::{bundle::Bundle, x509::X509Bundle};
use ring::digest;

use crate::{config::Config, identity::TrustBundle};

/// The bundle that an operator gave.
pub(crate) struct Bootstrap {
    pub(crate) bundle: TrustBundle,
    /// Of the file's bytes.
    pub(crate) sha256: Vec<u8>,
}

/// Reads `trust_bundle`: PEM certificates, or a SPIFFE bundle document.
pub(crate) fn load(config: &Config) -> Result<Bootstrap, ConfigError> {
    let path = &config.trust_bundle;
    let invalid =
        |problem: String| ConfigError::Invalid { path: path.clone(), problem: format!("trust_bundle: {problem}") };
    let bytes = std::fs::read(path).map_err(|e| invalid(format!("{e}; write it with `chancery-ca bundle show`")))?;
    let domain = config.trust_domain.clone();
    let x509 = match bytes.trim_ascii_start().first() {
        Some(b'{') => Bundle::from_json(domain.clone(), &bytes).map_err(|e| invalid(e.to_string()))?.x509,
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            X509Bundle::from_pem(domain.clone(), &text).map_err(|e| invalid(e.to_string()))?
        }
    };
    if x509.is_empty() {
        return Err(invalid(format!("it holds no X.509 authority of {domain}")));
    }
    let bundle = TrustBundle {
        trust_domain: domain,
        x509_authorities: x509.authorities().to_vec(),
        jwt_authorities: Vec::new(),
        tainted: Default::default(),
        sequence_number: 0,
        refresh_hint: 0,
    };
    Ok(Bootstrap { bundle, sha256: digest::digest(&digest::SHA256, &bytes).as_ref().to_vec() })
}
