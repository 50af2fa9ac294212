//! Everything that is checked before the CA spends a challenge on a token.

use chancery_sdk::time::UnixTime;

use super::{
    Payload,
    certificate::{self, MAX_CERTIFICATES, Vouched},
    key::{AttestationKey, MAX_SPKI_BYTES},
    trust::Trust,
    vendor::{self, Claims},
};
use crate::{
    crypto::sha256,
    csr::{Csr, CsrError},
    evidence::{Checks, Denied, Step},
    reason::Reason,
};

/// The version of the exchange this verifier speaks.
pub const VERSION: u32 = 1;
/// Largest payload in bytes: key, certificates and vendor evidence together.
pub const MAX_PAYLOAD_BYTES: usize = 32 * 1024;
/// Most pieces of vendor evidence.
pub const MAX_VENDOR: usize = 3;

/// A token that asks to join: who vouches for its key is known, that it can use the key is not yet proven.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Applicant {
    /// The attestation key.
    pub key: AttestationKey,
    /// The operator's CA that vouches for the key.
    pub vouched: Option<Vouched>,
    /// What makers state of the key; one statement of each at most.
    pub claims: Vec<Claims>,
    /// One of those devices is on the operator's list.
    pub listed: bool,
    /// DER SubjectPublicKeyInfo of the CSR: the key of the SVID.
    pub svid_spki: Vec<u8>,
    /// Every check so far.
    pub steps: Vec<Step>,
}

impl Applicant {
    /// Whether only an operator's enrolment says that the key is ours.
    pub fn needs_enrolment(&self) -> bool {
        self.vouched.is_none() && !self.listed
    }

    /// What is proven about the key once it has signed: selector values, the level first.
    ///
    /// Levels stand beside each other where more than one is proven, and `pop-only` where none is.
    pub fn selectors(&self) -> Vec<String> {
        let stated: Vec<_> = self.claims.iter().filter_map(|claims| claims.selectors().ok()).flatten().collect();
        let mut values: Vec<String> = stated.iter().map(|selector| selector.value().into()).collect();
        match (&self.vouched, values.is_empty()) {
            (Some(_), _) => values.insert(0, "device-cert".into()),
            (None, true) => values.push("pop-only".into()),
            (None, false) => {}
        }
        values.push(format!("spki:sha256:{}", hex::encode(self.key.hash())));
        if let Some(vouched) = &self.vouched {
            values.push(format!("ca:{}", hex::encode(vouched.ca)));
            values.extend(vouched.subject_serial.iter().map(|serial| format!("subject:serial:{serial}")));
        }
        values
    }
}

/// The hash of the key a payload claims, to look its enrolment up by.
///
/// # Errors
/// [`Denied`], never attributable.
pub fn claimed_key(payload: &Payload) -> Result<[u8; 32], Denied> {
    if payload.key.len() > MAX_SPKI_BYTES {
        let detail = format!("key of {} bytes exceeds {MAX_SPKI_BYTES} bytes", payload.key.len());
        return Err(Checks::default().fail("key.limits", Reason::EvidenceTooLarge, detail));
    }
    Ok(sha256(&[&payload.key]))
}

/// Checks all of a payload and its CSR; `enrolled` says whether an operator enrolled [`claimed_key`].
///
/// # Errors
/// [`Denied`], never attributable: nothing is proven before the challenge is answered.
///
/// Source: docs/SOURCES.md, checks K1 to K9.
pub fn examine_payload(
    payload: &Payload,
    csr: &[u8],
    trust: &Trust,
    enrolled: bool,
    now: UnixTime,
) -> Result<Applicant, Denied> {
    let mut checks = Checks::default();
    let examined = evidence(payload, trust, enrolled, now, &mut checks)?;
    let csr = checks.take("csr.signature", Csr::parse(csr), |e| match e {
        CsrError::Malformed => Reason::EvidenceMalformed,
        CsrError::TooLarge { .. } => Reason::EvidenceTooLarge,
        _ => Reason::CsrSignature,
    })?;
    finish(examined, csr.spki_der(), checks)
}

/// As [`examine_payload`] for the section of another attestor's evidence, whose CSR is checked: `svid_spki` is
/// its key, `steps` what was checked before.
///
/// # Errors
/// As [`examine_payload`].
pub fn examine_section(
    payload: &Payload,
    svid_spki: &[u8],
    steps: Vec<Step>,
    trust: &Trust,
    enrolled: bool,
    now: UnixTime,
) -> Result<Applicant, Denied> {
    let mut checks = Checks::after(steps);
    let examined = evidence(payload, trust, enrolled, now, &mut checks)?;
    finish(examined, svid_spki, checks)
}

fn finish(mut examined: Applicant, svid_spki: &[u8], mut checks: Checks) -> Result<Applicant, Denied> {
    let apart = svid_spki != examined.key.spki();
    checks.require("csr.key", apart, Reason::KeyReused, "the CSR is for the attestation key itself")?;
    examined.svid_spki = svid_spki.to_vec();
    examined.steps = checks.into_steps();
    Ok(examined)
}

/// All but the CSR: key, certificate, vendor evidence, deny list, and whether somebody says that it is ours.
fn evidence(
    payload: &Payload,
    trust: &Trust,
    enrolled: bool,
    now: UnixTime,
    checks: &mut Checks,
) -> Result<Applicant, Denied> {
    limits(payload, checks)?;
    let key = checks.take("key.parse", AttestationKey::parse(&payload.key), |e| e.reason)?;
    let vouched = match payload.certificates.as_slice() {
        [] => None,
        chain => {
            let verdict =
                certificate::verify(chain, key.spki(), &trust.enrolment_cas, trust.enrolment_crls.as_deref(), now);
            Some(checks.take("key.certificate", verdict, |e| e.reason)?)
        }
    };
    let mut examined =
        Applicant { key, vouched, claims: Vec::new(), listed: false, svid_spki: Vec::new(), steps: Vec::new() };
    stated(payload, trust, now, &mut examined, checks)?;
    let denied = examined.selectors().into_iter().find(|value| trust.denied.contains(value));
    let told = denied.clone().unwrap_or_default();
    checks.require("key.deny_list", denied.is_none(), Reason::KeyDenied, format!("{told} is denied"))?;
    let ours = enrolled || !examined.needs_enrolment();
    let hash = hex::encode(examined.key.hash());
    checks.require("key.enrolled", ours, Reason::KeyUnknown, format!("key {hash} is not enrolled"))?;
    Ok(examined)
}

/// What makers state of the key.
fn stated(
    payload: &Payload,
    trust: &Trust,
    now: UnixTime,
    examined: &mut Applicant,
    checks: &mut Checks,
) -> Result<(), Denied> {
    for piece in &payload.vendor {
        let spki = examined.key.spki();
        let verdict = vendor::verify(&piece.kind, &piece.evidence, spki, &trust.roots, &trust.vendors, now);
        let claims = checks.take("key.vendor", verdict, |e| e.reason)?;
        let again = examined.claims.iter().any(|other| other.vendor == claims.vendor);
        checks.require("key.vendor_once", !again, Reason::VendorClaim, "two statements of one maker")?;
        let terms = trust.vendors.kinds.get(&claims.vendor);
        examined.listed |= terms.is_some_and(|terms| terms.serials.contains(&claims.serial));
        examined.claims.push(claims);
    }
    Ok(())
}

fn limits(payload: &Payload, checks: &mut Checks) -> Result<(), Denied> {
    let version = payload.version;
    checks.require(
        "key.version",
        version == VERSION,
        Reason::EvidenceMalformed,
        format!("version {version}, {VERSION} is spoken"),
    )?;
    let (certificates, vendor) = (payload.certificates.len(), payload.vendor.len());
    let bytes = payload.key.len()
        + payload.certificates.iter().map(Vec::len).sum::<usize>()
        + payload.vendor.iter().map(|v| v.kind.len() + v.evidence.len()).sum::<usize>();
    let fits = certificates <= MAX_CERTIFICATES && vendor <= MAX_VENDOR && bytes <= MAX_PAYLOAD_BYTES;
    let detail = format!(
        "{certificates} certificates, {vendor} pieces of vendor evidence, {bytes} bytes; allowed are \
         {MAX_CERTIFICATES}, {MAX_VENDOR}, {MAX_PAYLOAD_BYTES}"
    );
    checks.require("key.limits", fits, Reason::EvidenceTooLarge, detail)
}
