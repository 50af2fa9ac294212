//! Card-verifiable certificates and requests: parsed strictly, field after field in the one order allowed.

use bp256::r1::{BrainpoolP256r1, ecdsa::Signature};
use chancery_sdk::time::UnixTime;
use ecdsa::{VerifyingKey, signature::Verifier};

use super::super::{
    Refused, refuse,
    tlv::{Element, Reader},
};
use crate::reason::Reason;

/// A key of the device's own infrastructure: brainpoolP256r1, a point on the curve.
pub(in super::super) type DeviceKey = VerifyingKey<BrainpoolP256r1>;

const CERTIFICATE: u16 = 0x7f21;
const BODY: u16 = 0x7f4e;
const PROFILE: u16 = 0x5f29;
const ISSUER: u16 = 0x42;
const PUBLIC_KEY: u16 = 0x7f49;
const HOLDER: u16 = 0x5f20;
const AUTHORIZATION: u16 = 0x7f4c;
const EFFECTIVE: u16 = 0x5f25;
const EXPIRES: u16 = 0x5f24;
const EXTENSIONS: u16 = 0x65;
const SIGNATURE: u16 = 0x5f37;
const AUTHENTICATED_REQUEST: u16 = 0x67;
const OID: u16 = 0x06;

/// id-TA-ECDSA-SHA-256 of TR-03110, the only algorithm device certificates are signed with.
const ECDSA_SHA256: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x02, 0x03];
/// CardContact's role of a SmartCard-HSM certificate, 1.3.6.1.4.1.24991.3.1.1.
const ROLE_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xc3, 0x1f, 0x03, 0x01, 0x01];
/// Length of a name: country, mnemonic, sequence number.
const HOLDER_BYTES: std::ops::RangeInclusive<usize> = 8..=16;
const DAY_SECS: i64 = 86_400;

/// Whether a certificate may spell its curve out; only a pinned root may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Domain {
    MayBeExplicit,
    Named,
}

/// Place in the hierarchy, as the issuer wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Role {
    Device,
    Issuer,
    Root,
}

/// One card-verifiable certificate; its signature is not yet checked.
#[derive(Clone, Debug)]
pub(in super::super) struct Cvc<'a> {
    pub issuer: &'a [u8],
    pub holder: &'a [u8],
    pub key: DeviceKey,
    pub role: Role,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Cvc<'a> {
    /// Reads one certificate with nothing after it.
    pub fn only(bytes: &'a [u8], domain: Domain) -> Result<Self, Refused> {
        let mut reader = Reader::new(bytes);
        let cvc = Self::read(&mut reader, domain)?;
        reader.end()?;
        Ok(cvc)
    }

    /// Reads the next certificate.
    pub fn read(reader: &mut Reader<'a>, domain: Domain) -> Result<Self, Refused> {
        let mut outer = Reader::new(reader.expect(CERTIFICATE)?.value);
        let body = outer.expect(BODY)?;
        let signature = outer.expect(SIGNATURE)?.value;
        outer.end()?;
        let mut fields = Reader::new(body.value);
        profile(&mut fields)?;
        let issuer = name(fields.expect(ISSUER)?)?;
        let key = device_key(fields.expect(PUBLIC_KEY)?.value, domain)?;
        let holder = name(fields.expect(HOLDER)?)?;
        let role = role(fields.expect(AUTHORIZATION)?.value)?;
        let not_before = midnight(fields.expect(EFFECTIVE)?.value)?;
        let not_after = midnight(fields.expect(EXPIRES)?.value)?.plus(DAY_SECS - 1); // its last day counts
        fields.skip_if_empty(EXTENSIONS); // real issuers have the empty list; no extension is known
        fields.end()?;
        Ok(Self { issuer, holder, key, role, not_before, not_after, signed: body.raw, signature })
    }

    /// Checks the signature over the exact bytes of the body.
    pub fn signed_by(&self, key: &DeviceKey) -> Result<(), Refused> {
        check_signature(key, self.signed, self.signature)
    }

    pub fn check_validity(&self, whose: &str, now: UnixTime) -> Result<(), Refused> {
        if now < self.not_before || now > self.not_after {
            let (from, to) = (self.not_before, self.not_after);
            return refuse(
                Reason::VendorValidity,
                format!("the {whose} certificate is valid from {from} to {to}, it is {now}"),
            );
        }
        Ok(())
    }
}

/// The device's signed statement that it made a key.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    /// Who signed, by name.
    pub signer: &'a [u8],
    /// Content of the public key element.
    pub key: &'a [u8],
    signed: Vec<u8>,
    signature: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads an authenticated request. Its inner signature, by the new key itself, is left alone: the
    /// challenge proves possession, and freshly.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let mut outer = Reader::new(reader.expect(AUTHENTICATED_REQUEST)?.value);
        let inner = outer.expect(CERTIFICATE)?;
        let signer = outer.expect(ISSUER)?;
        let signature = outer.expect(SIGNATURE)?.value;
        outer.end()?;
        let mut request = Reader::new(inner.value);
        let body = request.expect(BODY)?;
        request.expect(SIGNATURE)?;
        request.end()?;
        let mut fields = Reader::new(body.value);
        profile(&mut fields)?;
        name(fields.expect(ISSUER)?)?;
        let key = fields.expect(PUBLIC_KEY)?.value;
        name(fields.expect(HOLDER)?)?;
        fields.end()?; // a request has no dates and no role, and no extension is known
        Ok(Self { signer: name(signer)?, key, signed: [inner.raw, signer.raw].concat(), signature })
    }

    /// Checks the device's signature over request and signer's name.
    pub fn signed_by(&self, device: &DeviceKey) -> Result<(), Refused> {
        check_signature(device, &self.signed, self.signature)
    }
}

/// `signature` is r and s, 32 bytes each.
fn check_signature(key: &DeviceKey, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
    let verified = Signature::from_slice(signature).and_then(|signature| key.verify(message, &signature));
    verified.or_else(|_| refuse(Reason::VendorChain, "a signature of the chain is wrong"))
}

fn profile(fields: &mut Reader<'_>) -> Result<(), Refused> {
    match fields.expect(PROFILE)?.value {
        [0] => Ok(()),
        _ => refuse(Reason::EvidenceMalformed, "the certificate profile is not 0"),
    }
}

fn name(element: Element<'_>) -> Result<&[u8], Refused> {
    let value = element.value;
    if HOLDER_BYTES.contains(&value.len()) && value.iter().all(u8::is_ascii_alphanumeric) {
        return Ok(value);
    }
    refuse(Reason::EvidenceMalformed, "a name is not 8 to 16 letters and digits")
}

fn device_key(content: &[u8], domain: Domain) -> Result<DeviceKey, Refused> {
    let mut fields = Reader::new(content);
    if fields.expect(OID)?.value != ECDSA_SHA256 {
        return refuse(Reason::VendorChain, "a key of the chain is not for ECDSA with SHA-256");
    }
    let point = match domain {
        Domain::Named => fields.expect(super::key::POINT)?.value,
        Domain::MayBeExplicit => super::key::explicit_point(&mut fields, &super::key::BRAINPOOL_P256R1)?,
    };
    fields.end()?;
    let uncompressed = point.len() == 65 && point.starts_with(&[4]);
    match DeviceKey::from_sec1_bytes(point) {
        Ok(key) if uncompressed => Ok(key),
        _ => refuse(Reason::VendorChain, "a key of the chain is no point of brainpoolP256r1"),
    }
}

fn role(content: &[u8]) -> Result<Role, Refused> {
    let mut fields = Reader::new(content);
    let oid = fields.expect(OID)?.value;
    let role = fields.expect(0x53)?.value;
    fields.end()?;
    match (oid, role) {
        (ROLE_OID, [0x00]) => Ok(Role::Device),
        (ROLE_OID, [0x80]) => Ok(Role::Issuer),
        (ROLE_OID, [0xc0]) => Ok(Role::Root),
        _ => refuse(Reason::VendorChain, "a certificate's role is none of a SmartCard-HSM's"),
    }
}

/// The first second of a date of six bytes, one decimal digit each: YYMMDD of this century.
fn midnight(value: &[u8]) -> Result<UnixTime, Refused> {
    let digits: Vec<i64> = value.iter().filter(|digit| **digit <= 9).map(|digit| i64::from(*digit)).collect();
    let ([y1, y0, m1, m0, d1, d0], 6) = (digits.as_slice(), value.len()) else {
        return refuse(Reason::EvidenceMalformed, "a date is not six digits");
    };
    let (year, month, day) = (2000 + 10 * y1 + y0, 10 * m1 + m0, 10 * d1 + d0);
    match days(year, month, day) {
        Some(count) => Ok(UnixTime(count * DAY_SECS)),
        None => refuse(Reason::EvidenceMalformed, format!("{year}-{month:02}-{day:02} is no date")),
    }
}

/// Days from 1970-01-01 to a date from 2000 to 2099.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0; // 2000 is one, 2100 is out of range
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    let length = lengths.get(before)?;
    if !(1..=*length).contains(&day) {
        return None;
    }
    let since_2000 = year - 2000;
    let leap_days = (since_2000 + 3) / 4;
    Some(10_957 + 365 * since_2000 + leap_days + lengths.iter().take(before).sum::<i64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_1970() {
        for (digits, seconds) in [
            ([0, 0, 0, 1, 0, 1], 946_684_800),
            ([0, 0, 0, 3, 0, 1], 951_868_800),
            ([2, 4, 0, 2, 2, 9], 1_709_164_800),
            ([2, 6, 1, 1, 2, 2], 1_795_305_600),
            ([9, 9, 1, 2, 3, 1], 4_102_358_400),
        ] {
            assert_eq!(midnight(&digits).unwrap(), UnixTime(seconds), "{digits:?}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        let packed = [0x26, 0x11, 0x22];
        let (thirteenth, zeroth, leap) = ([2, 6, 1, 3, 0, 1], [2, 6, 0, 1, 0, 0], [2, 5, 0, 2, 2, 9]);
        let (hex, long) = ([2, 6, 0, 0xa, 0, 1], [2, 6, 0, 1, 0, 1, 0]);
        for bad in [&packed[..], &thirteenth, &zeroth, &leap, &hex, &long, &[]] {
            assert_eq!(midnight(bad).unwrap_err().reason, Reason::EvidenceMalformed, "{bad:?}");
        }
    }
}
