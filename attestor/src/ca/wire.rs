//! Protobuf in, vocabulary out: what the CA answers is checked here and nowhere else.

use chancery_core::selector::{Selector, Selectors};
use chancery_proto::spire::api::types;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
    time::UnixTime,
    x509::subject_key_id,
};
use rustls_pki_types::CertificateDer;
use tonic::Request;
use zeroize::Zeroizing;

pub(crate) use super::IssuedX509 as Issued;
use super::{CaError, IssuedJwt, IssuedX509};
use crate::identity::{JwtAuthority, TrustBundle};

/// A request that says which request of somebody's it is for.
pub(super) fn of_origin<T>(origin: &Origin, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in origin.metadata() {
        // Of plain characters, which its type says.
        if let Ok(value) = value.parse() {
            request.metadata_mut().insert(key, value);
        }
    }
    request
}

/// A SPIFFE ID in SPIRE's split form.
pub(crate) fn spiffe_id(id: Option<types::Spiffeid>) -> Result<SpiffeId, CaError> {
    let id = id.ok_or_else(|| CaError::malformed("an ID is missing"))?;
    let domain = TrustDomain::new(&id.trust_domain).map_err(|e| CaError::malformed(e.to_string()))?;
    SpiffeId::from_path(&domain, &id.path).map_err(|e| CaError::malformed(e.to_string()))
}

pub(super) fn selectors(list: Vec<types::Selector>) -> Result<Selectors, CaError> {
    list.iter().map(|s| Selector::new(&s.r#type, &s.value).map_err(|e| CaError::malformed(e.to_string()))).collect()
}

/// An SVID; the chain may not be empty.
pub(crate) fn x509_svid(svid: Option<types::X509svid>) -> Result<IssuedX509, CaError> {
    let svid = svid.ok_or_else(|| CaError::malformed("the SVID is missing"))?;
    issued(spiffe_id(svid.id)?, svid.cert_chain, svid.expires_at)
}

pub(super) fn issued(id: SpiffeId, chain: Vec<Vec<u8>>, expires_at: i64) -> Result<IssuedX509, CaError> {
    if chain.is_empty() {
        return Err(CaError::malformed("the SVID's chain is empty"));
    }
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(IssuedX509 { id, chain, expires_at: UnixTime(expires_at) })
}

pub(super) fn jwt_svid(svid: Option<types::Jwtsvid>) -> Result<IssuedJwt, CaError> {
    let svid = svid.ok_or_else(|| CaError::malformed("the JWT-SVID is missing"))?;
    Ok(IssuedJwt {
        id: spiffe_id(svid.id)?,
        token: Zeroizing::new(svid.token),
        issued_at: UnixTime(svid.issued_at),
        expires_at: UnixTime(svid.expires_at),
    })
}

/// A bundle; it must be of the domain that was asked for.
pub(crate) fn bundle(bundle: types::Bundle, asked: &TrustDomain) -> Result<TrustBundle, CaError> {
    let domain = TrustDomain::from_name_or_id(&bundle.trust_domain).map_err(|e| CaError::malformed(e.to_string()))?;
    if domain != *asked {
        return Err(CaError::malformed(format!("asked for the bundle of {asked}, got that of {domain}")));
    }
    let x509 = bundle.x509_authorities.iter().filter(|c| c.tainted).filter_map(|c| subject_key_id(&c.asn1));
    let jwt = bundle.jwt_authorities.iter().filter(|k| k.tainted).map(|k| k.key_id.clone());
    let tainted = x509.map(hex::encode).chain(jwt).collect();
    Ok(TrustBundle {
        trust_domain: domain,
        x509_authorities: bundle.x509_authorities.into_iter().map(|c| CertificateDer::from(c.asn1)).collect(),
        jwt_authorities: bundle
            .jwt_authorities
            .into_iter()
            .map(|k| JwtAuthority { key_id: k.key_id, public_key: k.public_key, expires_at: k.expires_at })
            .collect(),
        tainted,
        sequence_number: bundle.sequence_number,
        refresh_hint: bundle.refresh_hint,
    })
}
