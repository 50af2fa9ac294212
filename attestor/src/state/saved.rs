use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::identity::{JwtAuthority, TrustBundle};

/// Form of the file.
const VERSION: u32 = 1;

/// Everything in the state file.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    version: u32,
    /// SHA-256 of the `trust_bundle` file when the bundle below was taken; another file outdoes the saved bundle.
    #[serde(with = "base64_bytes")]
    pub bootstrap_sha256: Vec<u8>,
    /// The newest bundle of the trust domain.
    pub bundle: SavedBundle,
    /// The node's SVID; absent after a ban.
    pub svid: Option<SavedSvid>,
}

/// The node's SVID and what its key is found by.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSvid {
    /// The node.
    pub id: SpiffeId,
    /// DER, leaf first.
    #[serde(with = "base64_list")]
    pub chain: Vec<Vec<u8>>,
    /// Where its key is.
    pub key: SavedKey,
    /// Whether the node can prove itself again.
    pub reattestable: bool,
}

/// A private key, or what the TPM needs to load it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SavedKey {
    /// DER PKCS#8 of a key in memory.
    Pkcs8(#[serde(with = "base64_secret")] Zeroizing<Vec<u8>>),
    /// A key that stays in the PKCS#11 token.
    Token {
        /// What it is found by.
        label: String,
        /// SubjectPublicKeyInfo, DER; another key under the label is refused.
        #[serde(with = "base64_bytes")]
        spki: Vec<u8>,
    },
    /// A key that only the TPM can use.
    Tpm {
        /// TPM2B_PRIVATE without its size: encrypted by the TPM.
        #[serde(with = "base64_bytes")]
        private: Vec<u8>,
        /// TPMT_PUBLIC.
        #[serde(with = "base64_bytes")]
        public: Vec<u8>,
    },
}

/// A bundle in the file.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedBundle {
    trust_domain: String,
    #[serde(with = "base64_list")]
    x509_authorities: Vec<Vec<u8>>,
    jwt_authorities: Vec<SavedJwtAuthority>,
    sequence_number: u64,
    refresh_hint: i64,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedJwtAuthority {
    key_id: String,
    #[serde(with = "base64_bytes")]
    public_key: Vec<u8>,
    expires_at: i64,
}

impl Saved {
    /// A file's content of this version.
    pub fn new(bootstrap_sha256: Vec<u8>, bundle: &TrustBundle, svid: Option<SavedSvid>) -> Self {
        Self { version: VERSION, bootstrap_sha256, bundle: SavedBundle::from(bundle), svid }
    }

    /// Whether this release can read it.
    pub(super) fn is_current(&self) -> bool {
        self.version == VERSION
    }
}

impl SavedSvid {
    /// The chain as certificates.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
    }
}

impl SavedBundle {
    /// The bundle, where it is one of `domain` and has authorities.
    pub fn open(&self, domain: &TrustDomain) -> Option<TrustBundle> {
        if self.trust_domain != domain.name() || self.x509_authorities.is_empty() {
            return None;
        }
        let jwt = self.jwt_authorities.iter().map(|k| JwtAuthority {
            key_id: k.key_id.clone(),
            public_key: k.public_key.clone(),
            expires_at: k.expires_at,
        });
        Some(TrustBundle {
            trust_domain: domain.clone(),
            x509_authorities: self.x509_authorities.iter().map(|c| CertificateDer::from(c.clone())).collect(),
            jwt_authorities: jwt.collect(),
            // The first sync tells what is tainted.
            tainted: BTreeSet::new(),
            sequence_number: self.sequence_number,
            refresh_hint: self.refresh_hint,
        })
    }
}

impl From<&TrustBundle> for SavedBundle {
    fn from(bundle: &TrustBundle) -> Self {
        let jwt = bundle.jwt_authorities.iter().map(|k| SavedJwtAuthority {
            key_id: k.key_id.clone(),
            public_key: k.public_key.clone(),
            expires_at: k.expires_at,
        });
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            x509_authorities: bundle.x509_authorities.iter().map(|c| c.to_vec()).collect(),
            jwt_authorities: jwt.collect(),
            sequence_number: bundle.sequence_number,
            refresh_hint: bundle.refresh_hint,
        }
    }
}

/// When a chain's leaf begins and ends; `None` where it does not parse.
pub(crate) fn validity(chain: &[CertificateDer<'_>]) -> Option<(UnixTime, UnixTime)> {
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let validity = leaf.validity();
    Some((UnixTime(validity.not_before.timestamp()), UnixTime(validity.not_after.timestamp())))
}

fn decode<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(d)?).map_err(de::Error::custom)
}

mod base64_bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        decode(d)
    }
}

mod base64_secret {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &Zeroizing<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(STANDARD.encode(bytes.as_slice())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(de::Error::custom)
    }
}

mod base64_list {
    use super::*;

    pub fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|text| STANDARD.decode(text).map_err(de::Error::custom)).collect()
    }
}
