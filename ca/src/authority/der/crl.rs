//! A certificate revocation list in DER, written straight from a draft, with the issuer's name byte for byte.

use super::{
    super::{SignError, subordinate::crl::Crl},
    INTEGER, IssuerParts, OCTET_STRING, OID, SEQUENCE, moment, nest, put, time, unsigned,
};

/// Version 2.
const VERSION: &[u8] = &[INTEGER, 1, 1];
const ID_CRL_NUMBER: &[u8] = &[OID, 3, 0x55, 0x1d, 20];
const ID_REASON: &[u8] = &[OID, 3, 0x55, 0x1d, 21];
const ENUMERATED: u8 = 0x0a;
const CRL_EXTENSIONS: u8 = 0xa0;

/// TBSCertList of a drafted list.
///
/// Source: RFC 5280, 5.1 to 5.3.
pub(in super::super) fn tbs(crl: &Crl, issuer: &IssuerParts) -> Result<Vec<u8>, SignError> {
    let (this_update, next_update) = (moment(crl.this_update)?, moment(crl.next_update)?);
    let mut entries = Vec::new();
    for (serial, revoked) in &crl.revoked {
        let at = moment(revoked.at)?;
        nest(&mut entries, SEQUENCE, |o| {
            unsigned(o, &serial.to_bytes_be());
            time(o, at);
            // Unspecified is said by saying nothing (5.3.1).
            if revoked.reason.code() != 0 {
                nest(o, SEQUENCE, |o| {
                    nest(o, SEQUENCE, |o| {
                        o.extend_from_slice(ID_REASON);
                        nest(o, OCTET_STRING, |o| put(o, ENUMERATED, &[revoked.reason.code()]));
                    });
                });
            }
        });
    }
    let mut out = Vec::new();
    nest(&mut out, SEQUENCE, |o| {
        o.extend_from_slice(VERSION);
        o.extend_from_slice(issuer.algorithm);
        o.extend_from_slice(&issuer.name);
        time(o, this_update);
        time(o, next_update);
        // Absent where it would be empty (5.1.2.6).
        if !entries.is_empty() {
            put(o, SEQUENCE, &entries);
        }
        nest(o, CRL_EXTENSIONS, |o| {
            nest(o, SEQUENCE, |o| {
                o.extend_from_slice(&issuer.key_id);
                nest(o, SEQUENCE, |o| {
                    o.extend_from_slice(ID_CRL_NUMBER);
                    nest(o, OCTET_STRING, |o| unsigned(o, &crl.number.to_be_bytes()));
                });
            });
        });
    });
    Ok(out)
}
