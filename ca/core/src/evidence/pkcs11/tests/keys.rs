//! Keys that may not attest, limits, and who is ours.

use super::*;

#[test]
fn denied_and_unknown_keys_have_codes_of_their_own() {
    let mut sample = Sample::new();
    sample.enrolled = false;
    refuses(&sample, Reason::KeyUnknown);
    let mut sample = Sample::new();
    let hash = hex::encode(crate::crypto::sha256(&[&sample.payload.key]));
    sample.trust.denied.insert(format!("spki:sha256:{hash}"));
    refuses(&sample, Reason::KeyDenied);
    let mut sample = Sample::certified(&Profile::default());
    sample.trust.denied.insert("subject:serial:HSM-0007".into());
    refuses(&sample, Reason::KeyDenied);
}

#[test]
fn sizes_and_version_are_checked_first() {
    let mut sample = Sample::new();
    sample.payload.version = 2;
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.vendor = vec![VendorEvidence::default(); 4];
    refuses(&sample, Reason::EvidenceTooLarge);
    let mut sample = Sample::new();
    sample.payload.certificates = vec![vec![0; 32 * 1024]];
    refuses(&sample, Reason::EvidenceTooLarge);
    let mut sample = Sample::new();
    sample.payload.key = vec![0; 601];
    refuses(&sample, Reason::EvidenceTooLarge);
    is(claimed_key(&sample.payload).unwrap_err(), Reason::EvidenceTooLarge);
    is(broken(|_, _| Response { signature: vec![0; 513] }), Reason::EvidenceTooLarge);
    is(broken(|_, _| Response::default()), Reason::KeyProof);
}

/// DER of one TLV; contents below 64 KiB.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let head = match len {
        0..0x80 => vec![tag, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [head, content.to_vec()].concat()
}

/// SubjectPublicKeyInfo of an RSA key.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if modulus[0] & 0x80 == 0 { &[] } else { &[0] };
    let key = tlv(0x30, &[tlv(2, &[sign, modulus].concat()), tlv(2, exponent)].concat());
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    tlv(0x30, &[algorithm.to_vec(), tlv(3, &[&[0][..], &key].concat())].concat())
}

#[test]
fn weak_keys_are_key_weak() {
    let mut modulus = vec![0xa5; 256];
    *modulus.last_mut().unwrap() = 0xa7;
    let with = |key: Vec<u8>| {
        let mut sample = Sample::new();
        sample.payload.key = key;
        sample
    };
    with(rsa(&modulus, &[1, 0, 1])).examine().unwrap();
    let even = [&modulus[..255], &[0xa6]].concat();
    for weak in [
        rsa(&modulus[..128], &[1, 0, 1]),
        rsa(&[&[0x7f], &modulus[1..]].concat(), &[1, 0, 1]),
        rsa(&modulus, &[3]),
        rsa(&even, &[1, 0, 1]),
        rsa(&weak::tests::power_of_65537(128), &[1, 0, 1]),
    ] {
        refuses(&with(weak), Reason::KeyWeak);
    }
    // Off the curve, at infinity, compressed.
    let p256 = Sample::new().payload.key;
    let mut off = p256.clone();
    *off.last_mut().unwrap() ^= 1;
    let zero = [&p256[..27], &[0; 64]].concat();
    for point in [off, zero] {
        refuses(&with(point), Reason::KeyWeak);
    }
    let head = [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    for point in [vec![0], [&[2][..], &p256[27..59]].concat()] {
        let key = tlv(0x30, &[head.to_vec(), tlv(3, &[&[0][..], &point].concat())].concat());
        refuses(&with(key), Reason::KeyWeak);
    }
}
