//! Everything that is checked before the CA spends a challenge on an applicant.

use chancery_sdk::time::UnixTime;

use super::{
    Payload,
    ek_certificate::{self, Ek, MAX_INTERMEDIATES},
    names::{self, Name},
    public::{self, MAX_PUBLIC_BYTES, P256Key},
    templates::{self, EkKey},
    trust::{Enrol, Manufacturer, Trust},
};
use crate::{
    csr::{Csr, CsrError},
    evidence::{Checks, Denied, Step},
    reason::Reason,
};

/// The version of the exchange this verifier speaks.
pub const VERSION: u32 = 1;

/// A node that asks to join: its keys are of the right form, nothing is proven yet.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Applicant {
    /// SHA-256 of the EK's SubjectPublicKeyInfo: the node's ID.
    pub ek_hash: [u8; 32],
    /// The EK.
    pub ek_key: EkKey,
    /// Its TPMT_PUBLIC, rebuilt here: MakeCredential takes this and nothing from the client.
    pub ek_public: Vec<u8>,
    /// Name of the attestation key, computed here.
    pub ak_name: Name,
    /// The attestation key.
    pub ak: P256Key,
    /// Name of the node key, computed here.
    pub node_name: Name,
    /// DER SubjectPublicKeyInfo of the node key: the key of the SVID.
    pub node_spki: Vec<u8>,
    /// What the certificate says of the device; `None` for an EK enrolled without one.
    pub device: Option<Device>,
    /// An operator enrolled this EK.
    pub enrolled: bool,
    /// Every check so far.
    pub steps: Vec<Step>,
}

/// What a verified EK certificate says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Who made the TPM.
    pub manufacturer: Manufacturer,
    /// Part number.
    pub model: String,
    /// Version of the TPM.
    pub version: String,
    /// SHA-256 of the anchor that vouches for it.
    pub anchor: [u8; 32],
}

/// The hash of the EK a payload claims, to look its enrolment up by.
///
/// # Errors
/// [`Denied`], never attributable.
pub fn claimed_ek(payload: &Payload) -> Result<[u8; 32], Denied> {
    let ek = match (payload.ek_certificate.as_slice(), payload.ek_public.as_slice()) {
        ([], public) => ek_certificate::parse_public(public),
        (certificate, _) => ek_certificate::parse(certificate).map(|c| c.ek),
    };
    ek.map(|ek| ek.hash).map_err(|e| Checks::default().fail("ek.parse", e.reason, e.detail))
}

/// Checks all of a payload and its CSR; `enrolled` says whether an operator enrolled [`claimed_ek`].
///
/// # Errors
/// [`Denied`], never attributable: nothing is proven before the challenge is answered.
///
/// Source: docs/SOURCES.md, checks C1 to C9, C19, C20.
pub fn examine_payload(
    payload: &Payload,
    csr: &[u8],
    trust: &Trust,
    enrolled: bool,
    now: UnixTime,
) -> Result<Applicant, Denied> {
    let mut checks = Checks::default();
    limits(payload, &mut checks)?;
    let (ek, device) = endorsement(payload, trust, enrolled, now, &mut checks)?;
    let ak = public::attestation_key(&payload.ak_public);
    let ak = key(&mut checks, "ak.template", Reason::AkTemplate, &payload.ak_public, ak)?;
    let node = public::node_key(&payload.node_public);
    let node = key(&mut checks, "node_key.template", Reason::NodekeyTemplate, &payload.node_public, node)?;
    let csr = checks.take("csr.signature", Csr::parse(csr), |e| match e {
        CsrError::Malformed => Reason::EvidenceMalformed,
        CsrError::TooLarge { .. } => Reason::EvidenceTooLarge,
        _ => Reason::CsrSignature,
    })?;
    let node_spki = node.spki();
    checks.require(
        "csr.key",
        csr.spki_der() == node_spki,
        Reason::CsrKey,
        "the CSR is for another key than the node key",
    )?;
    Ok(Applicant {
        ek_hash: ek.hash,
        ek_public: templates::ek_public(&ek.key),
        ek_key: ek.key,
        ak_name: names::name(&payload.ak_public),
        ak,
        node_name: names::name(&payload.node_public),
        node_spki,
        device,
        enrolled,
        steps: checks.into_steps(),
    })
}

fn limits(payload: &Payload, checks: &mut Checks) -> Result<(), Denied> {
    let version = payload.version;
    checks.require(
        "payload.version",
        version == VERSION,
        Reason::EvidenceMalformed,
        format!("version {version}, {VERSION} is spoken"),
    )?;
    let counts = payload.ek_intermediates.len() <= MAX_INTERMEDIATES;
    let sizes = [&payload.ak_public, &payload.node_public].iter().all(|p| p.len() <= MAX_PUBLIC_BYTES)
        && payload.ek_intermediates.iter().all(|c| c.len() <= ek_certificate::MAX_CERTIFICATE_BYTES);
    checks.require(
        "payload.limits",
        counts && sizes,
        Reason::EvidenceTooLarge,
        "a public area or intermediate exceeds its limit",
    )?;
    let one = payload.ek_certificate.is_empty() != payload.ek_public.is_empty();
    checks.require(
        "payload.ek",
        one,
        Reason::EvidenceMalformed,
        "exactly one of EK certificate and EK public key is wanted",
    )
}

/// Is it ours (enrolment, cheap) and is it genuine (certificate, costly): both, in this order.
fn endorsement(
    payload: &Payload,
    trust: &Trust,
    enrolled: bool,
    now: UnixTime,
    checks: &mut Checks,
) -> Result<(Ek, Option<Device>), Denied> {
    if payload.ek_certificate.is_empty() {
        let ek = checks.take("ek.parse", ek_certificate::parse_public(&payload.ek_public), |e| e.reason)?;
        not_denied(&ek, trust, checks)?;
        checks.require("ek.enrolled", enrolled, Reason::EkUnknown, "an EK without certificate must be enrolled")?;
        return Ok((ek, None));
    }
    let certificate = checks.take("ek.certificate", ek_certificate::parse(&payload.ek_certificate), |e| e.reason)?;
    not_denied(&certificate.ek, trust, checks)?;
    let (manufacturer, model) = (certificate.manufacturer, certificate.model.clone());
    let welcome = enrolled
        || match &trust.enrol {
            Enrol::Inventory => false,
            Enrol::Open(allowed) => allowed.iter().any(|row| row.covers(manufacturer, &model)),
        };
    let hash = hex::encode(certificate.ek.hash);
    checks.require(
        "ek.enrolled",
        welcome,
        Reason::EkUnknown,
        format!("EK {hash} of {manufacturer} {model} is not enrolled"),
    )?;
    let verdict = certificate.verify(&payload.ek_intermediates, &trust.anchors, now);
    let anchor = checks.take("ek.chain", verdict, |e| e.reason)?.fingerprint;
    let device = Device { manufacturer, model, version: certificate.version, anchor };
    Ok((certificate.ek, Some(device)))
}

fn not_denied(ek: &Ek, trust: &Trust, checks: &mut Checks) -> Result<(), Denied> {
    let free = !trust.denied_eks.contains(&ek.hash);
    checks.require("ek.deny_list", free, Reason::EkDenied, format!("EK {} is denied", hex::encode(ek.hash)))
}

/// Malformed bytes and well-formed bytes of another template have codes of their own.
fn key(
    checks: &mut Checks,
    name: &'static str,
    reason: Reason,
    bytes: &[u8],
    exact: Option<P256Key>,
) -> Result<P256Key, Denied> {
    if let Some(key) = exact {
        checks.pass(name, "");
        return Ok(key);
    }
    match public::parse(bytes) {
        Ok(other) => Err(checks.fail(
            name,
            reason,
            format!("attributes 0x{:08x}, curve 0x{:04x}: not the template", other.attributes, other.curve),
        )),
        Err(super::wire::WireError::Field("type")) => Err(checks.fail(name, reason, "no elliptic-curve key")),
        Err(error) => Err(checks.fail(name, Reason::EvidenceMalformed, error.to_string())),
    }
}
