//! The real chain and request, and synthetic ones of their shape with one fault each.

use bp256::r1::{BrainpoolP256r1, ecdsa::Signature};
use ecdsa::{SigningKey, signature::Signer};

use super::super::{sample::*, *};

type Key = SigningKey<BrainpoolP256r1>;

const ECDSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x02, 0x03];
const RSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x01, 0x02];
const ROLE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xc3, 0x1f, 0x03, 0x01, 0x01];

/// One certificate as fields; each test changes one.
#[derive(Clone)]
struct Card {
    issuer: Vec<u8>,
    key: Vec<u8>,
    holder: Vec<u8>,
    role: u8,
    dates: [[u8; 6]; 2],
    extra: Vec<u8>,
    signer: Key,
}

impl Card {
    fn body(&self) -> Vec<u8> {
        let chat = [tlv(0x06, ROLE), tlv(0x53, &[self.role])].concat();
        let fields = [
            tlv(0x5f29, &[0]),
            tlv(0x42, &self.issuer),
            tlv(0x7f49, &self.key),
            tlv(0x5f20, &self.holder),
            tlv(0x7f4c, &chat),
            tlv(0x5f25, &self.dates[0]),
            tlv(0x5f24, &self.dates[1]),
            self.extra.clone(),
        ];
        tlv(0x7f4e, &fields.concat())
    }

    fn der(&self) -> Vec<u8> {
        let body = self.body();
        let signature = sign(&self.signer, &body);
        tlv(0x7f21, &[body, signature].concat())
    }
}

struct Sample {
    root: Card,
    issuer: Card,
    device: Card,
    /// Content of the attested key's element.
    key: Vec<u8>,
    /// Name and key that sign the request.
    request_by: (Vec<u8>, Key),
}

impl Sample {
    fn good() -> Self {
        let [root, issuer, device] = [1, 2, 3].map(key);
        let card = |issuer: &str, holder: &str, key: &Key, role, signer: &Key| Card {
            issuer: issuer.into(),
            key: named_key(key),
            holder: holder.into(),
            role,
            dates: [[2, 0, 0, 1, 0, 1], [3, 5, 1, 2, 3, 1]],
            extra: Vec::new(),
            signer: signer.clone(),
        };
        Self {
            root: card("ZZTESTROOT00001", "ZZTESTROOT00001", &root, 0xc0, &root),
            issuer: card("ZZTESTROOT00001", "ZZTESTDICA00001", &issuer, 0x80, &root),
            device: card("ZZTESTDICA00001", "ZZTEST000100000", &device, 0x00, &issuer),
            key: explicit_key("P-256", &[7; 64]),
            request_by: (b"ZZTEST000100000".to_vec(), device),
        }
    }

    fn roots(&self) -> PinnedRoots {
        let mut roots = roots();
        roots.add_root(Vendor::ScHsm, &self.explicit_root().der()).unwrap();
        roots
    }

    fn explicit_root(&self) -> Card {
        let point = self.root.signer.verifying_key().to_sec1_point(false);
        Card { key: explicit_key("brainpool", &point.as_bytes()[1..]), ..self.root.clone() }
    }

    fn request(&self) -> Vec<u8> {
        self.request_of(&self.key)
    }

    fn request_of(&self, key: &[u8]) -> Vec<u8> {
        let fields = [tlv(0x5f29, &[0]), tlv(0x42, b"UTCA00001"), tlv(0x7f49, key), tlv(0x5f20, b"ZZTEST000100001")];
        let body = tlv(0x7f4e, &fields.concat());
        let inner = tlv(0x7f21, &[body, tlv(0x5f37, &[0x11; 64])].concat());
        let signed = [inner, tlv(0x42, &self.request_by.0)].concat();
        let signature = sign(&self.request_by.1, &signed);
        tlv(0x67, &[signed, signature].concat())
    }

    fn evidence(&self) -> Vec<u8> {
        [self.device.der(), self.issuer.der(), self.request()].concat()
    }

    fn verify(&self) -> Result<Claims, Refused> {
        self.verify_blob(&self.evidence())
    }

    fn verify_blob(&self, evidence: &[u8]) -> Result<Claims, Refused> {
        self.verify_key(evidence, &p256_spki(&[7; 64]))
    }

    fn verify_key(&self, evidence: &[u8], spki: &[u8]) -> Result<Claims, Refused> {
        verify("sc-hsm", evidence, spki, &self.roots(), &on(Vendor::ScHsm, terms()), NOW)
    }

    fn refused(&self) -> Reason {
        self.verify().unwrap_err().reason
    }
}

fn terms() -> Terms {
    Terms { require_unexportable: false, ..Terms::default() }
}

fn key(seed: u8) -> Key {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn sign(key: &Key, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign(message);
    tlv(0x5f37, &signature.to_bytes())
}

fn named_key(key: &Key) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    [tlv(0x06, ECDSA), tlv(0x86, point.as_bytes())].concat()
}

/// A key with its curve spelled out; `xy` is the point without its form.
fn explicit_key(curve: &str, xy: &[u8]) -> Vec<u8> {
    let curve = super::key::sample(curve);
    let tags = (0x81..=0x85).zip(curve);
    let domain = tags.flat_map(|(tag, hex)| tlv(tag, &hex::decode(hex).unwrap()));
    [tlv(0x06, ECDSA), domain.collect(), tlv(0x86, &[&[4], xy].concat()), tlv(0x87, &[1])].concat()
}

fn p256_spki(xy: &[u8]) -> Vec<u8> {
    [&hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004").unwrap(), xy].concat()
}

fn tlv(tag: u16, content: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    match content.len() {
        len @ ..=0x7f => out.push(len as u8),
        len @ ..=0xff => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(content);
    out
}

fn real_evidence() -> Vec<u8> {
    [NITROKEY, NITROKEY_KEY].concat()
}

/// The key the device made: secp256k1, from its request.
fn real_spki() -> Vec<u8> {
    let point = "04c5007688149bb767a91e1716b3efc4e80b4408b1ba8a3b83712bbbf963e150bd\
                 d7e039af0165e4229cad670398161ae8456ff6b78c2f770a6dc0cf8f6723d34f";
    [hex::decode("3056301006072a8648ce3d020106052b8104000a034200").unwrap(), hex::decode(point).unwrap()].concat()
}

fn real(evidence: &[u8], terms: Terms, now: UnixTime) -> Result<Claims, Refused> {
    verify("sc-hsm", evidence, &real_spki(), &roots(), &on(Vendor::ScHsm, terms), now)
}

fn real_refused(evidence: &[u8]) -> Reason {
    real(evidence, terms(), NOW).unwrap_err().reason
}

#[test]
fn a_real_chain_and_request_are_accepted_and_say_what_the_device_said() {
    let claims = real(&real_evidence(), terms(), NOW).unwrap();
    assert_eq!((claims.serial.as_str(), claims.firmware), ("DENK0404144", None));
    assert_eq!((claims.generated, claims.exportable), (Tri::Yes, Tri::NotStated));
    let selectors: Vec<_> = claims.selectors().unwrap().iter().map(ToString::to_string).collect();
    let expected = ["pkcs11:attested:sc-hsm", "pkcs11:sc-hsm:origin:generated", "pkcs11:sc-hsm:serial:DENK0404144"];
    assert_eq!(selectors, expected);
}

#[test]
fn what_the_device_leaves_unsaid_is_a_refusal_where_the_operator_asks_for_it() {
    let refused = real(&real_evidence(), Terms::default(), NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorExportable);
    let asks = Terms { min_firmware: Some(Firmware([3, 0, 0])), ..terms() };
    assert_eq!(real(&real_evidence(), asks, NOW).unwrap_err().reason, Reason::VendorPolicy);
}

#[test]
fn a_synthetic_chain_of_the_same_shape_is_accepted() {
    assert_eq!(Sample::good().verify().unwrap().serial, "ZZTEST0001");
}

#[test]
fn any_altered_byte_of_real_evidence_is_refused() {
    let evidence = real_evidence();
    for at in 0..evidence.len() {
        assert!(real(&flipped(&evidence, at), terms(), NOW).is_err(), "byte {at}");
    }
}

#[test]
fn evidence_cut_anywhere_or_with_a_byte_more_is_refused() {
    let evidence = real_evidence();
    for end in 0..evidence.len() {
        assert_eq!(real_refused(&evidence[..end]), Reason::EvidenceMalformed, "{end}");
    }
    assert_eq!(real_refused(&[&evidence[..], &[0]].concat()), Reason::EvidenceMalformed);
}

#[test]
fn a_tampered_signature_or_name_is_refused() {
    let evidence = real_evidence();
    let last = evidence.len() - 1;
    assert_eq!(real_refused(&flipped(&evidence, last)), Reason::VendorChain);
    let at = evidence.windows(11).position(|w| w == b"DENK0404144").unwrap();
    let mut renamed = evidence.clone();
    renamed[at + 10] = b'5';
    assert_eq!(real_refused(&renamed), Reason::VendorChain);
}

#[test]
fn other_orders_and_missing_elements_are_refused() {
    let (device, issuer) = NITROKEY.split_at(232);
    for parts in [
        vec![NITROKEY],
        vec![device],
        vec![device, NITROKEY_KEY],
        vec![NITROKEY_KEY, NITROKEY],
        vec![NITROKEY, NITROKEY_KEY, NITROKEY_KEY],
        vec![NITROKEY, include_bytes!("../roots/sc-hsm.cvc"), NITROKEY_KEY],
    ] {
        assert_eq!(real_refused(&parts.concat()), Reason::EvidenceMalformed);
    }
    assert_eq!(real_refused(&[issuer, device, NITROKEY_KEY].concat()), Reason::VendorChain);
    assert_eq!(real_refused(&[issuer, issuer, NITROKEY_KEY].concat()), Reason::VendorChain);
}

#[test]
fn a_device_certificate_ends_unless_the_operator_lets_it_live_on() {
    let (in_2035, in_2025, in_2032) = (UnixTime(2_051_222_400), UnixTime(1_735_689_600), UnixTime(1_956_528_000));
    let evidence = real_evidence();
    let old = Terms { allow_expired_device: true, ..terms() };
    assert_eq!(real(&evidence, terms(), in_2032).unwrap_err().reason, Reason::VendorValidity);
    assert!(real(&evidence, old.clone(), in_2032).is_ok());
    // not before it begins, and not past the end of what vouches for it
    assert_eq!(real(&evidence, old.clone(), in_2025).unwrap_err().reason, Reason::VendorValidity);
    assert!(real(&evidence, old, in_2035).is_err());
}

#[test]
fn a_device_that_vouches_for_itself_is_refused() {
    assert_eq!(real_refused(PICO), Reason::EvidenceMalformed);
    // its request, undated and signed by its own key, in the place of a device certificate
    let (request, certificate) = PICO.split_at(497);
    let (inner, _) = request[4..].split_at(4 + 0x193);
    for device in [inner, certificate] {
        let evidence = [device, device, request].concat();
        assert!(real(&evidence, terms(), NOW).is_err());
    }
    // the same trick with our curve, roles and dates
    let mut sample = Sample::good();
    sample.device.issuer = sample.device.holder.clone();
    sample.device.signer = sample.request_by.1.clone();
    assert_eq!(sample.refused(), Reason::VendorChain);
    let alone = [sample.device.der(), sample.device.der(), sample.request()].concat();
    assert_eq!(sample.verify_blob(&alone).unwrap_err().reason, Reason::VendorChain);
}

#[test]
fn a_request_signed_by_any_other_key_is_refused() {
    let mut sample = Sample::good();
    sample.request_by.1 = key(9);
    assert_eq!(sample.refused(), Reason::VendorChain);
    let mut sample = Sample::good();
    sample.request_by = (sample.issuer.holder.clone(), sample.device.signer.clone());
    assert_eq!(sample.refused(), Reason::VendorChain);
    let mut sample = Sample::good();
    sample.request_by.0 = b"ZZTEST000200000".to_vec();
    assert_eq!(sample.refused(), Reason::VendorChain);
}

#[test]
fn evidence_about_another_key_is_refused() {
    let sample = Sample::good();
    let refused = sample.verify_key(&sample.evidence(), &p256_spki(&[8; 64])).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorKey);
}

#[test]
fn every_certificate_has_its_own_role() {
    for role in [0x80, 0xc0, 0x01] {
        let mut sample = Sample::good();
        sample.device.role = role;
        assert_eq!(sample.refused(), Reason::VendorChain, "{role:#x}");
    }
    for role in [0x00, 0xc0] {
        let mut sample = Sample::good();
        sample.issuer.role = role; // a device that signs for another device, or a root below the root
        assert_eq!(sample.refused(), Reason::VendorChain, "{role:#x}");
    }
}

#[test]
fn a_chain_to_a_root_of_the_peers_own_is_refused() {
    let sample = Sample::good();
    let policy = on(Vendor::ScHsm, terms());
    let refused = verify("sc-hsm", &sample.evidence(), &p256_spki(&[7; 64]), &roots(), &policy, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorChain);
    // a root of the same name as the pinned one
    let mut sample = Sample::good();
    sample.issuer.issuer = b"DESRCACC100001".to_vec();
    assert_eq!(sample.refused(), Reason::VendorChain);
}

#[test]
fn only_a_pinned_root_may_spell_its_curve_out() {
    let mut sample = Sample::good();
    let point = sample.request_by.1.verifying_key().to_sec1_point(false);
    sample.device.key = explicit_key("brainpool", &point.as_bytes()[1..]);
    assert_eq!(sample.refused(), Reason::EvidenceMalformed);
}

#[test]
fn points_off_the_curve_and_at_infinity_are_refused() {
    let good = Sample::good();
    let point = good.request_by.1.verifying_key().to_sec1_point(false).as_bytes().to_vec();
    let compressed = good.request_by.1.verifying_key().to_sec1_point(true).as_bytes().to_vec();
    for bad in [flipped(&point, 40), vec![0], vec![0; 65], compressed, vec![]] {
        let mut sample = Sample::good();
        sample.device.key = [tlv(0x06, ECDSA), tlv(0x86, &bad)].concat();
        assert_eq!(sample.refused(), Reason::VendorChain, "{bad:?}");
    }
    let mut root = good.explicit_root();
    let xy = flipped(&good.root.signer.verifying_key().to_sec1_point(false).as_bytes()[1..], 40);
    root.key = explicit_key("brainpool", &xy);
    assert!(PinnedRoots::default().add_root(Vendor::ScHsm, &root.der()).is_err());
}

#[test]
fn a_root_with_altered_parameters_or_a_foreign_signature_is_no_root() {
    let sample = Sample::good();
    let mut roots = PinnedRoots::default();
    let xy = sample.root.signer.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    let altered = Card { key: explicit_key("P-256", &xy), ..sample.root.clone() };
    assert!(roots.add_root(Vendor::ScHsm, &altered.der()).is_err());
    let foreign = Card { signer: key(9), ..sample.explicit_root() };
    assert!(roots.add_root(Vendor::ScHsm, &foreign.der()).is_err());
    assert_eq!(roots.add_root(Vendor::ScHsm, &sample.explicit_root().der()).map(|_| ()), Ok(()));
    let issuer = Card { key: explicit_key("brainpool", &xy), ..sample.issuer.clone() };
    assert_eq!(roots.add_root(Vendor::ScHsm, &issuer.der()), Err(RootError::NotCa(Vendor::ScHsm)));
}

#[test]
fn doubled_unknown_and_badly_encoded_fields_are_refused() {
    let mut doubled = Sample::good();
    doubled.device.extra = tlv(0x5f24, &[3, 5, 1, 2, 3, 1]);
    assert_eq!(doubled.refused(), Reason::EvidenceMalformed);
    let mut extended = Sample::good();
    extended.device.extra = tlv(0x65, &tlv(0x73, &[]));
    assert_eq!(extended.refused(), Reason::EvidenceMalformed);
    extended.device.extra = tlv(0x65, &[]); // as the real issuer's certificate has it
    assert!(extended.verify().is_ok());
    let sample = Sample::good();
    let mut long = sample.device.der();
    assert_eq!(long[2], 0x81);
    long.splice(2..4, [0x82, 0, long[3]]); // a length with a zero too many
    let evidence = [long, sample.issuer.der(), sample.request()].concat();
    assert_eq!(sample.verify_blob(&evidence).unwrap_err().reason, Reason::EvidenceMalformed);
    for name in [&b"SHORT00"[..], b"ZZTEST00010000000", b"ZZTEST-00100000"] {
        let mut named = Sample::good();
        named.device.holder = name.to_vec();
        assert_eq!(named.refused(), Reason::EvidenceMalformed);
    }
}

#[test]
fn attested_keys_are_known_by_their_public_key_info() {
    let xy = [5; 96];
    let p384 = [&hex::decode("3076301006072a8648ce3d020106052b8104002203620004").unwrap()[..], &xy].concat();
    let sample = Sample { key: explicit_key("P-384", &xy), ..Sample::good() };
    assert!(sample.verify_key(&sample.evidence(), &p384).is_ok());
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&rsa);
    let modulus = &spki[spki.len() - 261..spki.len() - 5]; // before INTEGER 65537
    let sample = Sample { key: rsa_key(modulus, &[1, 0, 1]), ..Sample::good() };
    assert!(sample.verify_key(&sample.evidence(), &spki).is_ok());
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    [tlv(0x06, RSA), tlv(0x81, modulus), tlv(0x82, exponent)].concat()
}

#[test]
fn weak_and_altered_attested_keys_are_refused() {
    let mut altered = explicit_key("P-256", &[7; 64]);
    let b = altered.windows(4).position(|w| w == [0x5a, 0xc6, 0x35, 0xd8]).unwrap();
    altered[b + 3] ^= 1;
    let odd = [0xff; 256];
    for key in [
        altered,
        explicit_key("P-256", &[7; 63]),
        explicit_key("brainpool", &[7; 64]),
        [tlv(0x06, ECDSA), tlv(0x86, &[&[4][..], &[7; 64]].concat())].concat(),
        rsa_key(&odd, &[3]),
        rsa_key(&odd[..128], &[1, 0, 1]),
        rsa_key(&[0xfe; 256], &[1, 0, 1]),
        tlv(0x06, &[0x2a]),
    ] {
        let sample = Sample { key, ..Sample::good() };
        assert_eq!(sample.refused(), Reason::VendorKey);
    }
}
