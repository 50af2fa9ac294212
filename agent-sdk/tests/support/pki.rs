//! A certificate authority in memory.

use chancery_proto::workload::X509svid;
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    x509::{X509Bundle, X509Svid},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

use super::now;

/// A root of one trust domain.
pub struct Authority {
    pub domain: TrustDomain,
    pub root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// What an authority made: DER chain, PKCS#8 key.
#[derive(Clone)]
pub struct Issued {
    pub id: String,
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

impl Issued {
    pub fn svid(&self) -> X509Svid {
        X509Svid::parse(&self.chain, &self.key).unwrap()
    }
}

impl Authority {
    pub fn new(domain: &str) -> Self {
        Self::with_san(domain, &format!("spiffe://{domain}"))
    }

    /// A root whose URI SAN is whatever `san` says.
    pub fn with_san(domain: &str, san: &str) -> Self {
        let key = new_key();
        let mut params = between(-3600, 365 * 86400);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, domain);
        params.subject_alt_names = vec![uri(san)];
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { domain: TrustDomain::new(domain).unwrap(), root, issuer: Issuer::new(params, key) }
    }

    pub fn bundle(&self) -> X509Bundle {
        X509Bundle::from_der_concatenated(self.domain.clone(), &self.root).unwrap()
    }

    /// A leaf that is valid for an hour.
    pub fn issue(&self, path: &str) -> Issued {
        self.issue_between(path, -10, 3600)
    }

    /// A leaf whose validity is given in seconds from now.
    pub fn issue_between(&self, path: &str, from: i64, to: i64) -> Issued {
        let key = new_key();
        let id = format!("spiffe://{}{path}", self.domain);
        let mut params = between(from, to);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(&id)];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Issued { id, chain: leaf.der().to_vec(), key: key.serialize_der() }
    }

    /// A leaf in the form of the Workload API.
    pub fn message(&self, path: &str, hint: &str) -> X509svid {
        self.wrap(self.issue(path), hint)
    }

    pub fn wrap(&self, issued: Issued, hint: &str) -> X509svid {
        X509svid {
            spiffe_id: issued.id,
            x509_svid: issued.chain,
            x509_svid_key: issued.key,
            bundle: self.root.clone(),
            hint: hint.to_owned(),
        }
    }

    /// An empty CRL.
    pub fn crl(&self) -> Vec<u8> {
        self.crl_with(|_| ())
    }

    /// The same, altered.
    pub fn crl_with(&self, change: impl FnOnce(&mut rcgen::CertificateRevocationListParams)) -> Vec<u8> {
        let mut params = rcgen::CertificateRevocationListParams {
            this_update: at(now()),
            next_update: at(now().plus(3600)),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// A CA below this one, as an intermediate of a chain.
    pub fn below(&self) -> Self {
        let key = new_key();
        let mut params = between(-3600, 86400);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "below");
        let root = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { domain: self.domain.clone(), root, issuer: Issuer::new(params, key) }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn between(from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = at(now().plus(from));
    params.not_after = at(now().plus(to));
    params.use_authority_key_identifier_extension = true;
    params
}

fn at(time: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.0).unwrap()
}
