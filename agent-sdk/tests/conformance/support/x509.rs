use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    x509::{Peer, VerifyError, X509Bundle, X509BundleSet, verify},
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PKCS_RSA_SHA384, PKCS_RSA_SHA512, RsaKeySize, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{NOW, W};

/// A certificate and its key.
pub struct Issued {
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
    params: CertificateParams,
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn at(when: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(when.0).unwrap()
}

/// A SAN extension made of raw URI bytes, which may be what no string type holds.
pub fn raw_uri_san(bytes: &[u8]) -> CustomExtension {
    let name = [&[0x86, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], sequence(&name))
}

/// A name constraints extension that permits URIs of one host.
pub fn permitted_uri_host(host: &str) -> CustomExtension {
    let name = [&[0x86, u8::try_from(host.len()).unwrap()], host.as_bytes()].concat();
    let mut permitted = sequence(&name);
    permitted = [&[0xa0, u8::try_from(permitted.len()).unwrap()], permitted.as_slice()].concat();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], sequence(&permitted));
    extension.set_criticality(true);
    extension
}

fn sequence(content: &[u8]) -> Vec<u8> {
    [&[0x30, u8::try_from(content.len()).unwrap()], content].concat()
}

fn params(name: &str, sans: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(NOW.plus(-1800));
    params.not_after = at(NOW.plus(1800));
    params.subject_alt_names = sans;
    params
}

fn ca_params(name: &str, domain: &str) -> CertificateParams {
    let mut params = params(name, vec![uri(&format!("spiffe://{domain}"))]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(id: &str) -> CertificateParams {
    let mut params = params("leaf", vec![uri(id)]);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A self-signed authority of `example.org`.
pub fn root() -> Issued {
    root_with("root", |_| {})
}

/// A self-signed authority of `other.test`.
pub fn root2() -> Issued {
    let params = ca_params("root of other.test", "other.test");
    self_signed(params)
}

/// A self-signed authority under a name of its own.
pub fn root_with(name: &str, fault: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = ca_params(name, "example.org");
    fault(&mut params);
    self_signed(params)
}

/// A self-signed authority of `example.org` with a key of another kind.
pub fn root_for_key(key: KeyPair) -> Issued {
    self_signed_by(ca_params("root", "example.org"), key)
}

/// A key of each kind that SPIFFE implementations issue certificates for.
pub fn keys_of_every_kind() -> Vec<KeyPair> {
    let made = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519].map(KeyPair::generate_for);
    let rsa = [&PKCS_RSA_SHA256, &PKCS_RSA_SHA384, &PKCS_RSA_SHA512];
    let rsa = rsa.map(|algorithm| KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048));
    made.into_iter().chain(rsa).map(Result::unwrap).collect()
}

fn self_signed(params: CertificateParams) -> Issued {
    self_signed_by(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

fn self_signed_by(params: CertificateParams, key: KeyPair) -> Issued {
    Issued { der: params.self_signed(&key).unwrap().der().clone(), key, params }
}

impl Issued {
    /// A CA under this one.
    pub fn ca(&self, name: &str) -> Issued {
        self.ca_with(name, |_| {})
    }

    pub fn ca_with(&self, name: &str, fault: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = ca_params(name, "example.org");
        fault(&mut params);
        self.sign(params)
    }

    /// A leaf for [`W`].
    pub fn leaf(&self) -> Issued {
        self.leaf_with(|_| {})
    }

    pub fn leaf_of(&self, id: &str) -> Issued {
        self.leaf_with(|params| params.subject_alt_names = vec![uri(id)])
    }

    pub fn leaf_with(&self, fault: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = leaf_params(W);
        fault(&mut params);
        self.sign(params)
    }

    /// A leaf for [`W`] with a key of another kind.
    pub fn leaf_for_key(&self, key: KeyPair) -> Issued {
        self.sign_key(leaf_params(W), key)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        self.sign_key(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    fn sign_key(&self, params: CertificateParams, key: KeyPair) -> Issued {
        let issuer = Issuer::from_params(&self.params, &self.key);
        Issued { der: params.signed_by(&key, &issuer).unwrap().der().clone(), key, params }
    }

    pub fn bundle(&self, domain: TrustDomain) -> X509Bundle {
        let mut bundle = X509Bundle::new(domain);
        bundle.insert(self.der.clone()).unwrap();
        bundle
    }
}

/// Bundles of `example.org` that hold these authorities.
pub fn trusting(authorities: &[&Issued]) -> X509BundleSet {
    let mut bundle = X509Bundle::new(super::td());
    for authority in authorities {
        bundle.insert(authority.der.clone()).unwrap();
    }
    X509BundleSet::from(bundle)
}

/// Verifies a chain at [`NOW`].
pub fn check(chain: &[&Issued], bundles: &X509BundleSet) -> Result<Peer, VerifyError> {
    let chain: Vec<_> = chain.iter().map(|issued| issued.der.clone()).collect();
    verify(&chain, bundles, NOW)
}
