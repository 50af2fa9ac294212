//! The real chain, and synthetic ones of its shape with one fault each.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use time::OffsetDateTime;

use super::super::{sample::*, *};

type Key = (CertificateParams, KeyPair);

/// What a chain of the maker's shape says; each test changes one thing.
struct Sample {
    key_claims: Vec<(u64, Vec<u8>)>,
    device_claims: Vec<(u64, Vec<u8>)>,
    device_usages: Vec<KeyUsagePurpose>,
    root: Key,
    sub_ca: Key,
    device: Key,
    key: KeyPair,
}

impl Sample {
    fn good() -> Self {
        let claims = vec![
            (1, vec![0x04, 3, 2, 4, 1]),
            (2, vec![0x02, 2, 0x30, 0x39]),
            (3, vec![0x03, 2, 0, 0x01]),
            (4, vec![0x03, 3, 0, 0, 1]),
            (5, vec![0x03, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            (6, vec![0x02, 1, 7]),
            (9, vec![0x0c, 1, b'a']),
        ];
        Self {
            device_claims: claims[..2].to_vec(),
            key_claims: claims,
            device_usages: Vec::new(),
            root: ca("Test YubiHSM Root CA", 2),
            sub_ca: ca("Test YubiHSM 1 Sub-CA", 1),
            device: ca("YubiHSM Attestation (12345)", 0),
            key: KeyPair::generate().unwrap(),
        }
    }

    /// Replaces the content of one claim of the key.
    fn claim(mut self, arc: u64, content: &[u8]) -> Self {
        self.key_claims.iter_mut().find(|(a, _)| *a == arc).unwrap().1 = content.to_vec();
        self
    }

    fn roots(&self) -> PinnedRoots {
        let mut roots = roots();
        roots.add_root(Vendor::YubiHsm2, &self.root_der()).unwrap();
        roots
    }

    fn root_der(&self) -> Vec<u8> {
        self.root.0.self_signed(&self.root.1).unwrap().der().to_vec()
    }

    fn sub_ca_der(&self) -> Vec<u8> {
        signed(&self.sub_ca.0, &self.sub_ca.1, &self.root)
    }

    fn device_der(&self) -> Vec<u8> {
        let mut params = self.device.0.clone();
        params.custom_extensions = self.device_claims.iter().map(extension).collect();
        params.key_usages = self.device_usages.clone();
        signed(&params, &self.device.1, &self.sub_ca)
    }

    fn key_der(&self) -> Vec<u8> {
        signed(&self.key_params(), &self.key, &self.device)
    }

    fn key_params(&self) -> CertificateParams {
        let mut params = named("YubiHSM Attestation id:0x0007");
        params.custom_extensions = self.key_claims.iter().map(extension).collect();
        params
    }

    fn evidence(&self) -> Vec<u8> {
        [self.key_der(), self.device_der(), self.sub_ca_der()].concat()
    }

    fn verify(&self) -> Result<Claims, Refused> {
        self.verify_blob(&self.evidence())
    }

    fn verify_blob(&self, evidence: &[u8]) -> Result<Claims, Refused> {
        let policy = on(Vendor::YubiHsm2, Terms::default());
        super::super::verify("yubihsm2", evidence, &spki(&self.key), &self.roots(), &policy, NOW)
    }

    fn refused(&self) -> Reason {
        self.verify().unwrap_err().reason
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from_unix_timestamp(1_483_228_800).unwrap(); // 2017, as Yubico's
    params.not_after = OffsetDateTime::from_unix_timestamp(3_211_228_800).unwrap();
    params
}

fn ca(name: &str, path_len: u8) -> Key {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    (params, KeyPair::generate().unwrap())
}

fn signed(params: &CertificateParams, key: &impl PublicKeyData, (issuer, issuer_key): &Key) -> Vec<u8> {
    let issuer = Issuer::from_params(issuer, issuer_key);
    params.signed_by(key, &issuer).unwrap().der().to_vec()
}

fn extension((arc, content): &(u64, Vec<u8>)) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 41482, 4, *arc], content.clone())
}

fn spki(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

fn real(evidence: &[u8], now: UnixTime) -> Result<Claims, Refused> {
    real_key(evidence, &real_spki(), now)
}

fn real_key(evidence: &[u8], key_spki: &[u8], now: UnixTime) -> Result<Claims, Refused> {
    verify("yubihsm2", evidence, key_spki, &roots(), &on(Vendor::YubiHsm2, Terms::default()), now)
}

fn real_spki() -> Vec<u8> {
    chancery_sdk::x509::spki_of(&YUBIHSM2[..YUBIHSM2_PARTS[0]]).unwrap()
}

#[test]
fn a_real_chain_is_accepted_and_says_what_the_device_said() {
    let claims = real(YUBIHSM2, NOW).unwrap();
    assert_eq!((claims.serial.as_str(), claims.firmware), ("20783176", Some(Firmware([2, 2, 0]))));
    assert_eq!((claims.generated, claims.exportable), (Tri::Yes, Tri::No));
    let selectors: Vec<_> = claims.selectors().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "pkcs11:attested:yubihsm2",
        "pkcs11:yubihsm2:exportable:false",
        "pkcs11:yubihsm2:fw:2.2",
        "pkcs11:yubihsm2:origin:generated",
        "pkcs11:yubihsm2:serial:20783176",
    ];
    assert_eq!(selectors, expected);
}

#[test]
fn a_synthetic_chain_of_the_same_shape_is_accepted() {
    let claims = Sample::good().verify().unwrap();
    assert_eq!((claims.serial.as_str(), claims.firmware), ("12345", Some(Firmware([2, 4, 1]))));
}

#[test]
fn any_altered_byte_of_a_real_chain_is_refused() {
    let spki = real_spki();
    for at in 0..YUBIHSM2.len() {
        assert!(real_key(&flipped(YUBIHSM2, at), &spki, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn a_chain_cut_anywhere_or_with_a_byte_more_is_refused() {
    for end in (0..YUBIHSM2.len()).step_by(7) {
        assert!(real(&YUBIHSM2[..end], NOW).is_err(), "{end}");
    }
    let longer = [YUBIHSM2, &[0]].concat();
    assert_eq!(real(&longer, NOW).unwrap_err().reason, Reason::EvidenceMalformed);
}

#[test]
fn evidence_about_another_key_is_refused() {
    let other = spki(&KeyPair::generate().unwrap());
    assert_eq!(real_key(YUBIHSM2, &other, NOW).unwrap_err().reason, Reason::VendorKey);
    let mut sample = Sample::good();
    let evidence = sample.evidence();
    sample.key = KeyPair::generate().unwrap();
    assert_eq!(sample.verify_blob(&evidence).unwrap_err().reason, Reason::VendorKey);
}

#[test]
fn another_devices_certificate_is_refused() {
    let [device, sub_ca] = YUBIHSM2_PARTS;
    let other = Sample::good().device_der();
    let swapped = [&YUBIHSM2[..device], &other, &YUBIHSM2[sub_ca..]].concat();
    assert_eq!(real(&swapped, NOW).unwrap_err().reason, Reason::VendorChain);
}

#[test]
fn a_sub_ca_may_come_from_the_operator_but_not_be_missing() {
    let [_, sub_ca] = YUBIHSM2_PARTS;
    let short = &YUBIHSM2[..sub_ca];
    assert_eq!(real(short, NOW).unwrap_err().reason, Reason::VendorChain);
    let mut roots = roots();
    roots.add_intermediate(Vendor::YubiHsm2, &YUBIHSM2[sub_ca..]).unwrap();
    let policy = on(Vendor::YubiHsm2, Terms::default());
    assert!(verify("yubihsm2", short, &real_spki(), &roots, &policy, NOW).is_ok());
}

#[test]
fn a_device_certificate_in_the_place_of_a_keys_is_refused() {
    let [device, sub_ca] = YUBIHSM2_PARTS;
    let spki = chancery_sdk::x509::spki_of(&YUBIHSM2[device..sub_ca]).unwrap();
    let refused = real_key(&YUBIHSM2[device..], &spki, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorChain);
}

#[test]
fn a_chain_out_of_its_time_is_refused() {
    let (year_2080, year_2016) = (UnixTime(3_471_292_800), UnixTime(1_451_606_400));
    for now in [year_2080, year_2016] {
        assert_eq!(real(YUBIHSM2, now).unwrap_err().reason, Reason::VendorValidity);
    }
    let mut sample = Sample::good();
    sample.device.0.not_after = OffsetDateTime::from_unix_timestamp(NOW.0 - 1).unwrap();
    assert_eq!(sample.refused(), Reason::VendorValidity);
}

#[test]
fn keys_that_came_from_outside_are_refused() {
    for origin in [0x00, 0x02, 0x03, 0x10, 0x11, 0x12, 0x81] {
        let sample = Sample::good().claim(3, &[0x03, 2, 0, origin]);
        assert_eq!(sample.refused(), Reason::VendorImported, "{origin:#x}");
    }
}

#[test]
fn exportable_keys_are_refused_and_capabilities_are_big_endian() {
    // 0x10020: sign-pkcs and exportable-under-wrap, as a real exportable key has
    let exportable = Sample::good().claim(5, &[0x03, 9, 0, 0, 0, 0, 0, 0, 1, 0, 0x20]);
    assert_eq!(exportable.refused(), Reason::VendorExportable);
    let reversed = Sample::good().claim(5, &[0x03, 9, 0, 0x20, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(reversed.verify().unwrap().exportable, Tri::No);
}

#[test]
fn an_attested_key_cannot_vouch_for_another() {
    // its owner signs, with a key the device attested, a certificate that looks like the device's
    let mut sample = Sample::good();
    let attested = sample.key_der();
    let owner = std::mem::replace(&mut sample.key, KeyPair::generate().unwrap());
    let forged = signed(&sample.key_params(), &sample.key, &(named("YubiHSM Attestation id:0x0007"), owner));
    let mut roots = sample.roots();
    roots.add_intermediate(Vendor::YubiHsm2, &sample.sub_ca_der()).unwrap();
    let policy = on(Vendor::YubiHsm2, Terms::default());
    let evidence = [forged.clone(), attested.clone(), sample.device_der()].concat();
    let refused = verify("yubihsm2", &evidence, &spki(&sample.key), &roots, &policy, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorChain, "{refused}");
    let four = [forged, attested, sample.device_der(), sample.sub_ca_der()].concat();
    assert_eq!(sample.verify_blob(&four).unwrap_err().reason, Reason::EvidenceMalformed);
}

#[test]
fn an_attestation_key_made_by_the_user_is_refused() {
    // a template lets the owner have a CA certificate for a key of his own, signed by the device
    let sample = Sample::good();
    let user = ca("YubiHSM Attestation (12345)", 0);
    let mut params = user.0.clone();
    params.custom_extensions = sample.key_claims.iter().map(extension).collect();
    let user_der = signed(&params, &user.1, &sample.device);
    let key = signed(&sample.key_params(), &sample.key, &user);
    let mut roots = sample.roots();
    roots.add_intermediate(Vendor::YubiHsm2, &sample.sub_ca_der()).unwrap();
    let policy = on(Vendor::YubiHsm2, Terms::default());
    let evidence = [key, user_der, sample.device_der()].concat();
    let refused = verify("yubihsm2", &evidence, &spki(&sample.key), &roots, &policy, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorChain, "{refused}");
}

#[test]
fn a_path_that_is_valid_but_longer_or_shorter_than_the_makers_is_refused() {
    let mut sample = Sample::good();
    // the root signs the device itself
    let mut params = sample.device.0.clone();
    params.custom_extensions = sample.device_claims.iter().map(extension).collect();
    let device = signed(&params, &sample.device.1, &sample.root);
    let short = [sample.key_der(), device].concat();
    assert_eq!(sample.verify_blob(&short).unwrap_err().reason, Reason::VendorChain);
    // one more CA between, which no path length forbids
    sample.sub_ca.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between = ca("Between", 1);
    let mut roots = sample.roots();
    roots.add_intermediate(Vendor::YubiHsm2, &sample.sub_ca_der()).unwrap();
    let device = signed(&params, &sample.device.1, &between);
    let between = signed(&between.0, &between.1, &sample.sub_ca);
    let policy = on(Vendor::YubiHsm2, Terms::default());
    let long = [sample.key_der(), device, between].concat();
    let refused = verify("yubihsm2", &long, &spki(&sample.key), &roots, &policy, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::VendorChain, "{refused}");
    assert!(refused.detail.contains("3 certificates between key and root"), "{refused}");
}

#[test]
fn a_root_the_peer_brings_is_no_root() {
    let sample = Sample::good();
    let evidence = sample.evidence();
    let with_root = [evidence.clone(), sample.root_der()].concat();
    assert_eq!(sample.verify_blob(&with_root).unwrap_err().reason, Reason::EvidenceMalformed);
    assert_eq!(real_key(&evidence, &spki(&sample.key), NOW).unwrap_err().reason, Reason::VendorChain);
    let own = [sample.key_der(), sample.device_der(), sample.root_der()].concat();
    assert_eq!(sample.verify_blob(&own).unwrap_err().reason, Reason::VendorChain);
}

#[test]
fn absent_and_doubled_claims_are_refused() {
    for arc in [1, 2, 3, 5, 6] {
        let mut absent = Sample::good();
        absent.key_claims.retain(|(a, _)| *a != arc);
        assert_eq!(absent.refused(), Reason::VendorClaim, "absent {arc}");
        let mut doubled = Sample::good();
        let again = doubled.key_claims.iter().find(|(a, _)| *a == arc).unwrap().clone();
        doubled.key_claims.push(again);
        assert_eq!(doubled.refused(), Reason::VendorClaim, "doubled {arc}");
    }
    let mut device = Sample::good();
    device.device_claims.retain(|(a, _)| *a != 2);
    assert_eq!(device.refused(), Reason::VendorClaim);
}

#[test]
fn claims_of_another_form_are_refused() {
    let cases: [(u64, &[u8]); 10] = [
        (1, &[0x04, 2, 2, 4]),
        (2, &[0x02, 2, 0x00, 0x39]),
        (2, &[0x02, 1, 0xff]),
        (2, &[0x04, 2, 0x30, 0x39]),
        (3, &[0x03, 2, 1, 0x01]),
        (3, &[0x03, 3, 0, 0, 0x01]),
        (5, &[0x03, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0x80]),
        (5, &[0x03, 8, 0, 0, 0, 0, 0, 0, 0, 0x80]),
        (6, &[0x02, 1, 0]),
        (6, &[0x02, 1, 7, 0]),
    ];
    for (arc, content) in cases {
        assert_eq!(Sample::good().claim(arc, content).refused(), Reason::VendorClaim, "{arc} {content:?}");
    }
}

#[test]
fn key_and_device_must_name_one_device() {
    assert_eq!(Sample::good().claim(2, &[0x02, 2, 0x30, 0x3a]).refused(), Reason::VendorClaim);
}

#[test]
fn a_signer_whose_key_usage_is_for_something_else_is_refused() {
    let mut sample = Sample::good();
    sample.device_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(sample.refused(), Reason::VendorChain);
    sample.device_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert!(sample.verify().is_ok());
}

#[test]
fn the_operators_terms_are_held() {
    let ask = |terms| verify("yubihsm2", YUBIHSM2, &real_spki(), &roots(), &on(Vendor::YubiHsm2, terms), NOW);
    let serials = |serial: &str| [serial.to_owned()].into();
    let firmware = |version| Some(Firmware(version));
    assert!(ask(Terms { min_firmware: firmware([2, 2, 0]), ..Terms::default() }).is_ok());
    assert!(ask(Terms { serials: serials("20783176"), ..Terms::default() }).is_ok());
    for terms in [
        Terms { min_firmware: firmware([2, 4, 0]), ..Terms::default() },
        Terms { serials: serials("20783177"), ..Terms::default() },
        Terms { denied_serials: serials("20783176"), ..Terms::default() },
    ] {
        assert_eq!(ask(terms).unwrap_err().reason, Reason::VendorPolicy);
    }
}
