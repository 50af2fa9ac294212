//! SmartCard-HSM and Nitrokey HSM 2: card-verifiable certificates, and a request the device signs per key.
//!
//! Evidence is EF 2F02 (device certificate, device issuer CA) followed by the key's EF CExx: the authenticated
//! request the device makes, and signs with its own key, when it *generates* a key pair. An imported key has
//! none. The request says nothing about export: a key of a device initialised with DKEK shares can be wrapped
//! out, so [`Tri::NotStated`] is all that can be claimed. Device certificates do run out, and mean it.
//!
//! Source: BSI TR-03110 part 3, C and D; SmartCard-HSM user manual; real chains (`samples/README.md`).

pub(super) mod cvc;
mod key;

use chancery_sdk::time::UnixTime;

use self::{
    cvc::{Cvc, DeviceKey, Domain, Request, Role},
    key::attested_spki,
};
use super::{Claims, PinnedRoots, Refused, Tri, Vendor, refuse, tlv::Reader};
use crate::reason::Reason;

/// Digits at the end of a device's name that count its certificates.
const SEQUENCE_BYTES: usize = 5;

/// Verifies chain, statement and key; `evidence` is three elements, `key_spki` DER.
pub(super) fn verify(
    evidence: &[u8],
    key_spki: &[u8],
    roots: &PinnedRoots,
    allow_expired_device: bool,
    now: UnixTime,
) -> Result<Claims, Refused> {
    let mut reader = Reader::new(evidence);
    let device = Cvc::read(&mut reader, Domain::Named)?;
    let issuer = Cvc::read(&mut reader, Domain::Named)?;
    let request = Request::read(&mut reader)?;
    reader.end()?;
    check_chain(&device, &issuer, roots, allow_expired_device, now)?;
    if request.signer != device.holder {
        return refuse(Reason::VendorChain, "the request names another signer than the device");
    }
    request.signed_by(&device.key)?;
    if attested_spki(request.key)? != key_spki {
        return refuse(Reason::VendorKey, "the evidence is about another key than the one that must sign");
    }
    Ok(Claims {
        vendor: Vendor::ScHsm,
        serial: serial(device.holder)?,
        firmware: None,
        generated: Tri::Yes,
        exportable: Tri::NotStated,
    })
}

fn check_chain(
    device: &Cvc<'_>,
    issuer: &Cvc<'_>,
    roots: &PinnedRoots,
    allow_expired_device: bool,
    now: UnixTime,
) -> Result<(), Refused> {
    if device.role != Role::Device || issuer.role != Role::Issuer {
        return refuse(Reason::VendorChain, "the certificates are not those of a device and of a device issuer");
    }
    if device.issuer != issuer.holder {
        return refuse(Reason::VendorChain, "the device's certificate names another issuer than the one sent");
    }
    let mut named = roots.sc_hsm_named(issuer.issuer).filter(|root| root.not_before <= now && now <= root.not_after);
    let vouches = |key: &DeviceKey| issuer.signed_by(key).is_ok();
    if !named.any(|root| vouches(&root.key)) {
        return refuse(Reason::VendorChain, "the device issuer is not signed by a pinned SmartCard-HSM root");
    }
    device.signed_by(&issuer.key)?;
    issuer.check_validity("device issuer", now)?;
    if allow_expired_device && now > device.not_after {
        return Ok(());
    }
    device.check_validity("device", now)
}

/// The device's name without the count of its certificates: `DENK0404144` of `DENK040414400000`.
fn serial(holder: &[u8]) -> Result<String, Refused> {
    let name = holder.len().checked_sub(SEQUENCE_BYTES).and_then(|end| holder.get(..end));
    match name.map(<[u8]>::to_vec).map(String::from_utf8) {
        Some(Ok(name)) if !name.is_empty() => Ok(name),
        _ => refuse(Reason::VendorClaim, "the device's name is too short"),
    }
}

#[cfg(test)]
mod tests;
