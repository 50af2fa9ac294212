//! A CA certificate in DER, written straight from a draft: with the issuer's name byte for byte as its own
//! certificate has it, whatever forms of text that uses.

use super::{
    super::{
        SignError,
        subordinate::{Draft, Holder},
    },
    CRITICAL, EXTENSIONS, ID_SAN, ID_SKI, INTEGER, IssuerParts, OCTET_STRING, SEQUENCE, URI, VERSION, moment, name,
    nest, put, time, unsigned,
};
use chancery_core::leaf::Subject;

/// keyUsage, critical: keyCertSign and cRLSign.
#[rustfmt::skip]
const CA_USAGE: &[u8] = &[SEQUENCE, 14, 0x06, 3, 0x55, 0x1d, 15, 1, 1, 0xff, OCTET_STRING, 4, 0x03, 2, 1, 0x06];
const ID_BASIC_CONSTRAINTS: &[u8] = &[0x06, 3, 0x55, 0x1d, 19];
const TRUE: &[u8] = &[1, 1, 0xff];

/// The subject of a drafted CA: organization, common name if there is one, and the serial number, so that
/// authorities that follow each other have different names. DER Name.
pub(in super::super) fn subject(draft: &Draft<'_>, serial: [u8; 16]) -> Result<Vec<u8>, SignError> {
    let mut attributes = vec![("2.5.4.10".to_owned(), "Chancery".to_owned())];
    if let Some(common) = draft.common_name {
        attributes.push(("2.5.4.3".into(), common.into()));
    }
    attributes.push(("2.5.4.5".into(), u128::from_be_bytes(serial).to_string()));
    name(&Subject(attributes))
}

/// TBSCertificate of a drafted CA. `issuer_key_id` says whether the issuer's key identifier goes in: not in a root.
///
/// Source: RFC 5280, 4.1 and 4.2; conformance XS-14 to XS-17.
pub(in super::super) fn tbs(
    draft: &Draft<'_>,
    holder: &Holder<'_>,
    serial: [u8; 16],
    issuer: &IssuerParts,
    issuer_key_id: bool,
) -> Result<Vec<u8>, SignError> {
    let (not_before, not_after) = (moment(draft.not_before)?, moment(draft.not_after)?);
    let uri = draft.domain.id().to_string();
    let mut out = Vec::new();
    nest(&mut out, SEQUENCE, |o| {
        o.extend_from_slice(VERSION);
        unsigned(o, &serial);
        o.extend_from_slice(issuer.algorithm);
        o.extend_from_slice(&issuer.name);
        nest(o, SEQUENCE, |o| {
            time(o, not_before);
            time(o, not_after);
        });
        o.extend_from_slice(holder.name);
        o.extend_from_slice(draft.spki);
        nest(o, EXTENSIONS, |o| {
            nest(o, SEQUENCE, |o| {
                if issuer_key_id {
                    o.extend_from_slice(&issuer.key_id);
                }
                extension(o, ID_SAN, false, |o| nest(o, SEQUENCE, |o| put(o, URI, uri.as_bytes())));
                o.extend_from_slice(CA_USAGE);
                extension(o, ID_SKI, false, |o| put(o, OCTET_STRING, holder.key_id));
                extension(o, ID_BASIC_CONSTRAINTS, true, |o| {
                    nest(o, SEQUENCE, |o| {
                        o.extend_from_slice(TRUE);
                        if let Some(path_len) = draft.path_len {
                            put(o, INTEGER, &[path_len]);
                        }
                    });
                });
            });
        });
    });
    Ok(out)
}

fn extension(out: &mut Vec<u8>, id: &[u8], critical: bool, value: impl FnOnce(&mut Vec<u8>)) {
    nest(out, SEQUENCE, |o| {
        o.extend_from_slice(id);
        if critical {
            o.extend_from_slice(CRITICAL);
        }
        nest(o, OCTET_STRING, value);
    });
}
