use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};

/// Manufacturer id on the certificates made here.
pub const MANUFACTURER: &str = "id:49465800";

/// A manufacturer's CA in our hand, and an EK whose certificates it issues.
pub struct Maker {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub ek: KeyPair,
}

/// An EK certificate to be issued.
pub struct Profile {
    pub manufacturer: &'static str,
    pub eku: &'static [u64],
    pub ca: bool,
    pub until: i32,
    pub critical: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self { manufacturer: MANUFACTURER, eku: &[2, 23, 133, 8, 1], ca: false, until: 2099, critical: false }
    }
}

impl Maker {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Test TPM Issuing CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, ek: KeyPair::generate().unwrap() }
    }

    pub fn issue(&self, profile: &Profile) -> Vec<u8> {
        profile.params().signed_by(&self.ek, &self.issuer).unwrap().der().to_vec()
    }

    /// A certificate of the EK by itself, under the CA's name.
    pub fn self_signed(&self) -> Vec<u8> {
        let mut params = Profile::default().params();
        params.distinguished_name.push(DnType::CommonName, "Test TPM Issuing CA");
        params.self_signed(&self.ek).unwrap().der().to_vec()
    }

    /// What an operator enrols.
    pub fn ek_hash(&self) -> String {
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &self.ek.subject_public_key_info()))
    }
}

impl Profile {
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = if self.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(self.eku.to_vec())];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(self.until, 1, 1);
        let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 17], device(self.manufacturer));
        names.set_criticality(true);
        params.custom_extensions = vec![names];
        if self.critical {
            let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            odd.set_criticality(true);
            params.custom_extensions.push(odd);
        }
        params
    }
}

/// subjectAltName with manufacturer, model and version of a TPM.
fn device(manufacturer: &str) -> Vec<u8> {
    let rows = [(1, manufacturer), (2, "SLB9672"), (3, "id:0F08")];
    let sets = rows.iter().flat_map(|(arc, text)| {
        let oid = tlv(6, &[0x67, 0x81, 0x05, 0x02, *arc]);
        tlv(0x31, &tlv(0x30, &[oid, tlv(0x0c, text.as_bytes())].concat()))
    });
    tlv(0x30, &tlv(0xa4, &tlv(0x30, &sets.collect::<Vec<u8>>())))
}

/// DER of one TLV; contents below 128 bytes.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}
