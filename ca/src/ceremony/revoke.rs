//! A CRL: what the one before said, and what is taken back from now on.

use std::path::Path;

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    CeremonyError, Document, Made,
    config::{Ceremony, CrlTable, KeyTable, RevokedRow},
    input, issuer,
};
use crate::{
    authority::{
        SignError,
        subordinate::{
            Parent,
            crl::{self, Crl, MAX_ENTRIES, Revoked},
        },
    },
    keys::file,
    moment::{self, rfc3339},
};

/// Makes the list that follows the one before.
pub(super) fn crl(
    ceremony: &Ceremony,
    table: &KeyTable,
    wanted: &CrlTable,
    now: UnixTime,
) -> Result<Made, CeremonyError> {
    let issuer = issuer(ceremony, table)?;
    let parent = Parent::of_lists(&issuer.certificate, issuer.key)?;
    let mut inputs = vec![issuer.input];
    let before = match &wanted.previous {
        None => None,
        Some(path) => {
            inputs.push(input(path)?);
            Some(parent.read_crl(&list(path)?)?)
        }
    };
    if let Some(late) = before.as_ref().map(|crl| crl.this_update).filter(|at| *at > now) {
        return Err(problem(format!("the one before is of {}, which is still to come: set the clock", rfc3339(late))));
    }
    let number = number(before.as_ref().map(|crl| crl.number), wanted.number)?;
    let mut revoked = before.map(|crl| crl.revoked).unwrap_or_default();
    let (_, own) = X509Certificate::from_der(&issuer.certificate).map_err(|_| SignError::Mismatch("shape"))?;
    for row in &wanted.revoked {
        let (serial, entry) = read(row, now)?;
        if serial == own.serial {
            return Err(problem(format!("{} is the issuer itself, which cannot take itself back", row.serial)));
        }
        // What was once said is not said otherwise later.
        if revoked.insert(serial, entry).is_some_and(|known| known != entry) {
            return Err(problem(format!(
                "{} is taken back already, since another date or for another reason",
                row.serial
            )));
        }
    }
    let crl = Crl { number, this_update: now, next_update: now.plus(ceremony.life.as_secs()), revoked };
    let der = parent.sign_crl(&crl, MAX_ENTRIES)?;
    Ok(Made { document: Document::Crl(der, crl), key: None, used: issuer.used, inputs })
}

/// The bytes of a list, from PEM or DER.
fn list(path: &Path) -> Result<Vec<u8>, CeremonyError> {
    let bytes = file::bytes(path)?;
    let pem = CertificateRevocationListDer::from_pem_slice(&bytes);
    Ok(pem.map_or_else(|_| bytes.to_vec(), |der| der.to_vec()))
}

/// Greater than any before.
fn number(before: Option<u64>, wanted: Option<u64>) -> Result<u64, CeremonyError> {
    match (before, wanted) {
        (Some(before), None) => before.checked_add(1).ok_or_else(|| problem("no number is left".into())),
        (Some(before), Some(wanted)) if wanted <= before => {
            Err(problem(format!("number = {wanted} is not above {before}, that of the one before")))
        }
        (_, Some(wanted)) => Ok(wanted),
        (None, None) => Err(problem("number is missing".into())),
    }
}

fn read(row: &RevokedRow, now: UnixTime) -> Result<(x509_parser::num_bigint::BigUint, Revoked), CeremonyError> {
    let (Some(serial), Some(at)) = (crl::serial(&row.serial), moment::parse(&row.date)) else {
        return Err(problem(format!("\"{}\" is no serial number, or \"{}\" no date", row.serial, row.date)));
    };
    if at > now {
        return Err(problem(format!("{} would be taken back at {}, which is still to come", row.serial, row.date)));
    }
    Ok((serial, Revoked { at, reason: row.reason }))
}

fn problem(what: String) -> CeremonyError {
    CeremonyError::Crl(what)
}
