//! Conversions from and to the types of the `spiffe` crate, for programs that already speak it.
//!
//! Each goes through the checks of the receiving type: what `spiffe` folds or lets pass is refused here.

use serde_json::{Map, Value};

use crate::{
    id::{IdError, SpiffeId, TrustDomain},
    jwt::{JwtBundle, JwtBundleError},
    x509::{X509Bundle, X509BundleError, X509Svid, X509SvidError},
};

impl TryFrom<&spiffe::SpiffeId> for SpiffeId {
    type Error = IdError;

    fn try_from(id: &spiffe::SpiffeId) -> Result<Self, IdError> {
        Self::parse(&id.to_string())
    }
}

impl TryFrom<&SpiffeId> for spiffe::SpiffeId {
    type Error = spiffe::SpiffeIdError;

    fn try_from(id: &SpiffeId) -> Result<Self, Self::Error> {
        Self::new(id.as_str())
    }
}

impl TryFrom<&spiffe::TrustDomain> for TrustDomain {
    type Error = IdError;

    fn try_from(domain: &spiffe::TrustDomain) -> Result<Self, IdError> {
        Self::new(domain.as_str())
    }
}

impl TryFrom<&TrustDomain> for spiffe::TrustDomain {
    type Error = spiffe::SpiffeIdError;

    fn try_from(domain: &TrustDomain) -> Result<Self, Self::Error> {
        Self::new(domain.name())
    }
}

impl TryFrom<&spiffe::X509Svid> for X509Svid {
    type Error = X509SvidError;

    fn try_from(svid: &spiffe::X509Svid) -> Result<Self, X509SvidError> {
        let chain: Vec<u8> = svid.cert_chain().iter().flat_map(|c| c.as_bytes().iter().copied()).collect();
        Self::parse(&chain, svid.private_key().as_bytes())
    }
}

impl TryFrom<&X509Svid> for spiffe::X509Svid {
    type Error = spiffe::X509SvidError;

    fn try_from(svid: &X509Svid) -> Result<Self, Self::Error> {
        Self::parse_from_der(&svid.chain_der_concatenated(), svid.private_key_pkcs8())
    }
}

/// Why a bundle of the `spiffe` crate is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InteropError {
    /// Its trust domain.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Its JWT keys.
    #[error(transparent)]
    Jwt(#[from] JwtBundleError),
    /// Its X.509 authorities.
    #[error(transparent)]
    X509(#[from] X509BundleError),
}

impl TryFrom<&spiffe::X509Bundle> for X509Bundle {
    type Error = InteropError;

    fn try_from(bundle: &spiffe::X509Bundle) -> Result<Self, InteropError> {
        let mut converted = Self::new(TrustDomain::try_from(bundle.trust_domain())?);
        for authority in bundle.authorities() {
            converted.insert(authority.as_bytes().to_vec().into())?;
        }
        Ok(converted)
    }
}

impl TryFrom<&X509Bundle> for spiffe::X509Bundle {
    type Error = spiffe::X509BundleError;

    /// A name that `spiffe` refuses cannot occur: it accepts every trust domain accepted here.
    fn try_from(bundle: &X509Bundle) -> Result<Self, Self::Error> {
        let domain =
            spiffe::TrustDomain::try_from(bundle.trust_domain()).expect("spiffe accepts every domain accepted here");
        Self::parse_from_der(domain, &bundle.to_der_concatenated())
    }
}

impl TryFrom<&spiffe::JwtBundle> for JwtBundle {
    type Error = InteropError;

    /// Elements that are no signing keys for JWT-SVIDs are passed over; keys come in order of name.
    fn try_from(bundle: &spiffe::JwtBundle) -> Result<Self, InteropError> {
        let mut authorities: Vec<_> = bundle.jwt_authorities().collect();
        authorities.sort_by(|a, b| a.key_id().cmp(b.key_id()));
        let read = |json: &[u8]| serde_json::from_slice::<Map<String, Value>>(json).ok();
        let keys: Vec<_> = authorities.iter().filter_map(|authority| read(authority.jwk_json())).collect();
        let set = serde_json::json!({ "keys": keys }).to_string();
        Ok(Self::from_jwks(TrustDomain::try_from(bundle.trust_domain())?, set.as_bytes())?)
    }
}

impl TryFrom<&JwtBundle> for spiffe::JwtBundle {
    type Error = spiffe::JwtBundleError;

    fn try_from(bundle: &JwtBundle) -> Result<Self, Self::Error> {
        let domain =
            spiffe::TrustDomain::try_from(bundle.trust_domain()).expect("spiffe accepts every domain accepted here");
        let mut converted = Self::new(domain);
        for key in bundle.keys() {
            converted.add_jwk_authority_json(Value::Object(key.to_jwk()).to_string().as_bytes())?;
        }
        Ok(converted)
    }
}
