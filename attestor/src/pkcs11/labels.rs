use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;

/// Every token takes labels of this many bytes.
pub(super) const MAX_BYTES: usize = 40;

/// The label of the attestation key of a trust domain, unless the operator names another.
pub(super) fn attestation(domain: &str) -> String {
    format!("chancery/attest/{}", text(&sha256(domain.as_bytes())[..16]))
}

/// What the labels of this node's SVID keys begin with: the attestation key tells nodes apart that share a token.
pub(super) fn svid_prefix(attestation_spki: &[u8]) -> String {
    format!("chancery/node/{}/", text(&sha256(attestation_spki)[..6]))
}

/// A label that is not in use: `chance` is random.
pub(super) fn svid(prefix: &str, chance: [u8; 12]) -> String {
    format!("{prefix}{}", text(&chance))
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_every_token_and_tell_domains_and_nodes_apart() {
        assert!(attestation("prod.example.org").len() <= MAX_BYTES);
        assert_ne!(attestation("prod.example.org"), attestation("test.example.org"));
        let prefix = svid_prefix(b"key");
        let label = svid(&prefix, [7; 12]);
        assert!(label.len() <= MAX_BYTES && label.starts_with(&prefix), "{label}");
        assert_ne!(prefix, svid_prefix(b"other key"));
    }
}
