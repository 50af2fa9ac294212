//! Anchors: manufacturer CAs that an operator believes make genuine devices.

use chancery_core::evidence::tpm::Manufacturer;
use chancery_sdk::time::UnixTime;
use ring::digest::{SHA256, digest};
use x509_parser::{pem::Pem, prelude::FromDer, prelude::X509Certificate};

use crate::{
    nodes::check_note,
    problem::Problem,
    state::State,
    store::{Anchor, Fact, Refusal},
};

/// Most certificates in one import; the largest manufacturer publishes a few dozen.
const MAX_CERTIFICATES: usize = 256;
/// Largest import in bytes.
const MAX_PEM_BYTES: usize = 1 << 20;

/// Imports every certificate of a PEM text; those imported before stay as they are. Answers the ones named.
///
/// # Errors
/// [`Problem::Invalid`] where one is no CA certificate; then none is imported.
pub async fn import(state: &State, pem: &str, manufacturer: &str, note: &str) -> Result<Vec<Anchor>, Problem> {
    check_note(note)?;
    // An anchor vouches for one manufacturer's devices: another's name in an EK certificate is a forgery.
    if let Err(error) = manufacturer.parse::<Manufacturer>() {
        return Err(Problem::Invalid(format!(
            "manufacturer: {error}; name it like id:49465800, as in the EK certificates"
        )));
    }
    let ders = certificates(pem)?;
    let read = |der: &Vec<u8>| anchor(der, manufacturer, note, state.now());
    let anchors = ders.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for anchor in &anchors {
        match state.commit(Fact::ImportAnchor(anchor.clone())).await?.done() {
            Ok(_) | Err(Refusal::AlreadyExists(_)) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(anchors)
}

/// Every anchor, in the order of the fingerprint.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State) -> Result<Vec<Anchor>, Problem> {
    Ok(state.store.anchors().await?)
}

fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, Problem> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(Problem::Invalid(format!("import of {} bytes exceeds {MAX_PEM_BYTES} bytes", pem.len())));
    }
    let mut ders = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|e| Problem::Invalid(format!("not PEM: {e}")))?;
        if block.label == "CERTIFICATE" {
            ders.push(block.contents);
        }
    }
    match ders.len() {
        0 => Err(Problem::Invalid("no CERTIFICATE block in the import".into())),
        many if many > MAX_CERTIFICATES => {
            Err(Problem::Invalid(format!("{many} certificates exceed {MAX_CERTIFICATES}")))
        }
        _ => Ok(ders),
    }
}

fn anchor(der: &[u8], manufacturer: &str, note: &str, now: UnixTime) -> Result<Anchor, Problem> {
    let invalid = |what: &str| Problem::Invalid(format!("certificate {}: {what}", fingerprint(der)));
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| invalid("does not parse"))?;
    if !rest.is_empty() {
        return Err(invalid("has bytes after its end"));
    }
    if !cert.is_ca() {
        return Err(invalid(
            "is no CA certificate: an anchor is the manufacturer's issuing CA, not a device's certificate",
        ));
    }
    let not_after = UnixTime(cert.validity().not_after.timestamp());
    if not_after < now {
        return Err(invalid("has expired"));
    }
    Ok(Anchor {
        fingerprint: fingerprint(der),
        der: der.to_vec(),
        subject: cert.subject().to_string(),
        manufacturer: manufacturer.into(),
        not_after,
        note: note.into(),
        imported_at: now,
    })
}

fn fingerprint(der: &[u8]) -> String {
    hex::encode(digest(&SHA256, der))
}
