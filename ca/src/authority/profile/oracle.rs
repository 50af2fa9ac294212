//! The leaf profile in rcgen's terms: what `der` writes is held to it, and tests of `compare` change it.

use chancery_core::leaf::{Leaf, Subject};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::{SignError, base, push_printable, uri};

/// A leaf: digitalSignature only, both EKUs, cA explicitly false, one URI SAN. What `der` writes is held to this.
pub(in crate::authority) fn leaf(
    leaf: &Leaf,
    public: &rcgen::SubjectPublicKeyInfo,
) -> Result<CertificateParams, SignError> {
    let point = rcgen::PublicKeyData::der_bytes(public);
    let mut params = base(leaf.serial(), point, leaf.not_before(), leaf.not_after())?;
    params.distinguished_name = name(leaf.subject())?;
    params.subject_alt_names = vec![uri(leaf.id().as_str())?];
    for dns in leaf.dns_names() {
        params.subject_alt_names.push(SanType::DnsName(dns.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn name(subject: &Subject) -> Result<DistinguishedName, SignError> {
    let mut name = DistinguishedName::new();
    for (oid, text) in &subject.0 {
        let arcs: Result<Vec<u64>, _> = oid.split('.').map(str::parse).collect();
        let arcs = arcs.map_err(|_| SignError::Profile("a subject attribute has no OID"))?;
        match arcs.as_slice() {
            // countryName and serialNumber are PrintableString (RFC 5280, appendix A).
            [2, 5, 4, 5 | 6] => push_printable(&mut name, &arcs, text)?,
            _ => name.push(DnType::from_oid(&arcs), text.as_str()),
        }
    }
    Ok(name)
}
