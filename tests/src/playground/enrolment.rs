use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo,
};

/// An operator's CA that vouches for keys in tokens. Its own key is in memory and gone with the playground.
pub(super) struct EnrolmentCa {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM: `pkcs11.enrolment_ca_file` of the CA.
    pub(super) file: PathBuf,
}

impl EnrolmentCa {
    /// Makes one, with its certificate in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self, String> {
        let say = |e: rcgen::Error| format!("enrolment CA: {e}");
        let mut params = named("Playground Token Enrolment CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(say)?;
        let certificate = params.self_signed(&key).map_err(say)?;
        let file = folder.join("token-enrolment.pem");
        fs::write(&file, certificate.pem()).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Self { issuer: Issuer::new(params, key), file })
    }

    /// The PEM certificate of an attestation key: what an operator issues who saw it made in the token.
    pub(super) fn certify(&self, public_key: &str) -> Result<String, String> {
        let say = |e: rcgen::Error| format!("enrolment CA: {e}");
        let mut params = named("Playground Token");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = SubjectPublicKeyInfo::from_pem(public_key).map_err(say)?;
        Ok(params.signed_by(&key, &self.issuer).map_err(say)?.pem())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
