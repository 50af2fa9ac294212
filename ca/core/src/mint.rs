//! Decides SVIDs an operator mints: the one place that takes names from a CSR (docs/decisions/0006).
//!
//! For local admins only, as SPIRE's tools expect; reserved paths are refused here as everywhere.

use chancery_sdk::{
    id::{IdError, SpiffeId, TrustDomain},
    time::UnixTime,
};
use thiserror::Error;

use crate::{
    csr::{Asked, Csr, CsrError},
    entry::dns::{DnsNameError, check_dns_name, check_wildcards},
    ids::{self, PlaceError},
    leaf::{JwtGrant, Leaf, LeafError, Subject},
    lifetime::{LifetimeError, Limits, Profile},
};

/// Why nothing is minted.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[allow(missing_docs)] // the messages say it
pub enum MintError {
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    DnsName(#[from] DnsNameError),
    #[error("the CSR's URI name: {0}")]
    Id(#[source] IdError),
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the CSR must ask for exactly one URI name, the SPIFFE ID")]
    UriCount,
}

/// Decides a minted X509-SVID from a CSR's key, its one URI name, its DNS names and its subject.
///
/// # Errors
/// [`MintError`] naming the first rule broken. Source: spire-wire 1.4 (MintX509SVID); conformance XS-01, XS-05.
pub fn x509(
    csr_der: &[u8],
    domain: &TrustDomain,
    profile: Profile,
    ttl: i64,
    limits: Limits,
    serial: [u8; 16],
    now: UnixTime,
) -> Result<Leaf, MintError> {
    let csr = Csr::parse(csr_der)?;
    let asked = Asked::parse(csr_der)?;
    let id = asked.spiffe_id().map_err(|why| why.map_or(MintError::UriCount, MintError::Id))?;
    ids::check_workload(&id, domain)?;
    asked.dns_names.iter().try_for_each(|name| check_dns_name(name))?;
    check_wildcards(&asked.dns_names)?;
    let validity = profile.clamp(ttl, limits, now)?;
    let mut leaf = Leaf::new(id, &csr, validity, serial)?;
    if !asked.dns_names.is_empty() {
        leaf = leaf.with_dns_names(asked.dns_names);
    }
    Ok(if asked.subject.is_empty() { leaf } else { leaf.with_subject(Subject(asked.subject)) })
}

/// Decides a minted JWT-SVID.
///
/// # Errors
/// [`MintError`] naming the first rule broken. Source: spire-wire 1.4 (MintJWTSVID).
pub fn jwt(
    id: &SpiffeId,
    audience: &[String],
    domain: &TrustDomain,
    profile: Profile,
    ttl: i64,
    limits: Limits,
    now: UnixTime,
) -> Result<JwtGrant, MintError> {
    ids::check_workload(id, domain)?;
    let validity = profile.clamp(ttl, limits, now)?;
    Ok(JwtGrant::new(id.clone(), audience, now, validity.not_after, None)?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;
    use crate::entry::samples::{domain, id};

    const NOW: UnixTime = UnixTime(1_000_000);

    fn mint(uris: &[&str], dns: &[&str], common_name: Option<&str>) -> Result<Leaf, MintError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let uris = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap()));
        let dns = dns.iter().map(|d| SanType::DnsName((*d).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let limits = Limits { issuer: NOW.plus(86_400), node: None };
        x509(csr.der(), &domain(), Profile::new(3600, 86_400).unwrap(), 0, limits, [1; 16], NOW)
    }

    #[test]
    fn minted_leaf_takes_names_from_the_csr() {
        let leaf = mint(&["spiffe://td/web"], &["web.example.org"], Some("Web")).unwrap();
        assert_eq!((leaf.id(), leaf.dns_names()), (&id("/web"), &["web.example.org".to_owned()][..]));
        assert_eq!(leaf.subject().0, [("2.5.4.3".to_owned(), "Web".to_owned())]);
    }

    #[test]
    fn xs_01_exactly_one_uri_name_is_minted() {
        assert_eq!(mint(&[], &[], None), Err(MintError::UriCount));
        assert_eq!(mint(&["spiffe://td/a", "spiffe://td/b"], &[], None), Err(MintError::UriCount));
    }

    #[test]
    fn xs_05_bare_trust_domain_is_not_minted() {
        assert_eq!(mint(&["spiffe://td"], &[], None), Err(PlaceError::NoPath(domain().id()).into()));
    }

    #[test]
    fn reserved_and_foreign_ids_are_not_minted() {
        for bad in [
            "spiffe://td/agent/x/y",
            "spiffe://td/spire/server",
            "spiffe://td/spire/agent/tpm/a",
            "spiffe://other/x",
            "http://td/x",
        ] {
            assert!(mint(&[bad], &[], None).is_err(), "{bad}");
        }
        let limits = Limits { issuer: NOW.plus(86_400), node: None };
        let profile = Profile::new(300, 3600).unwrap();
        let token = |id: &SpiffeId, aud: &[String]| jwt(id, aud, &domain(), profile, 0, limits, NOW);
        assert!(token(&id("/agent/x/y"), &["a".into()]).is_err());
        assert_eq!(token(&id("/x"), &[]), Err(LeafError::NoAudience.into()));
        assert_eq!(token(&id("/x"), &["a".into()]).unwrap().expires_at(), NOW.plus(300));
    }

    #[test]
    fn bad_dns_names_and_covering_wildcards_are_not_minted() {
        assert!(mint(&["spiffe://td/web"], &["a_b.example.org"], None).is_err());
        assert!(mint(&["spiffe://td/web"], &["*.example.org", "a.example.org"], None).is_err());
    }
}
