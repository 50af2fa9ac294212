//! The TPM actor against real emulators.

mod common;
use common::process;

use std::{path::Path, sync::Arc, time::Duration};

use chancery_attestor::{
    crypto::{NodeKey, csr},
    tpm::{Bus, EkKind, Endorsement, NodeKeyBlob, Tpm, TpmError, TpmKey},
};
use chancery_core::evidence::tpm::templates::{
    AK_ATTRIBUTES, EkKey, NODE_KEY_ATTRIBUTES, attestation_key_template, attestation_key_unique, ek_public,
    node_key_template,
};
use common::Machine;
use ring::{digest, signature};

/// Bytes of a P-256 signing template before its `unique`.
const FIXED: usize = 20;
/// What makes a key sign whatever it is given.
const SIGNER: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
/// PCRs of the built-in policy.
const BOOT_PCRS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn the_attestation_key_has_exactly_the_templates_bytes_and_survives_clear() {
    let machine = Machine::new();
    let tpm = machine.open();
    let public = tpm.attestation_key().unwrap();
    let template = attestation_key_template(&attestation_key_unique("td.test", 0));
    assert_eq!(public[..FIXED], template[..FIXED]);
    assert_eq!(public[4..8], AK_ATTRIBUTES.to_be_bytes());
    assert_ne!(public[FIXED..], template[FIXED..], "the TPM puts its own point where the template says unique");
    machine.tpm.clear().unwrap();
    assert_eq!(machine.open().attestation_key().unwrap(), public);
}

#[test]
fn each_trust_domain_gets_an_attestation_key_of_its_own() {
    let machine = Machine::new();
    let mut options = machine.options(Bus::Internal);
    options.trust_domain = "other.test".into();
    let other = Tpm::open(options).unwrap().attestation_key().unwrap();
    assert_ne!(machine.open().attestation_key().unwrap(), other);
}

#[test]
fn node_keys_have_exactly_the_templates_bytes_and_are_all_different() {
    let machine = Machine::new();
    let tpm = machine.open();
    let (one, two) = (tpm.new_node_key().unwrap(), tpm.new_node_key().unwrap());
    assert_eq!(one.public[..FIXED], node_key_template()[..FIXED]);
    assert_eq!(one.public[4..8], NODE_KEY_ATTRIBUTES.to_be_bytes());
    assert_ne!(one.public, two.public);
    // Both in turn: there is room for one at a time.
    for key in [&one, &two, &one] {
        check_signature(&tpm, key);
    }
}

#[test]
fn both_endorsement_keys_are_found_and_p384_is_preferred() {
    let machine = Machine::new();
    let all = machine.open().endorsements().unwrap();
    let kinds: Vec<EkKind> = all.iter().map(|ek| ek.kind).collect();
    assert_eq!(kinds, [EkKind::P384, EkKind::Rsa2048]);
    for ek in &all {
        let der = ek.certificate.as_ref().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([der[2], der[3]])) + 4, der.len(), "trimmed");
        assert_eq!(ek.hash().len(), 64);
    }
}

#[test]
fn a_credential_for_the_key_in_the_certificate_is_activated() {
    let machine = Machine::new();
    for (bus, kind) in [
        (Bus::Internal, EkKind::Rsa2048),
        (Bus::Internal, EkKind::P384),
        (Bus::Exposed, EkKind::Rsa2048),
        (Bus::Exposed, EkKind::P384),
        (Bus::Exposed, EkKind::P256),
    ] {
        let tpm = Tpm::open(machine.options(bus)).unwrap();
        let name = name_of(&tpm.attestation_key().unwrap());
        let (id_object, secret) = credential(&machine, &tpm, kind, &name);
        let activated = tpm.activate(kind, id_object, secret).unwrap();
        assert_eq!(activated.as_slice(), SECRET, "{bus:?} {kind:?}");
        // Nothing may leak: the TPM has three slots for sessions and for objects.
        for _ in 0..4 {
            assert!(tpm.activate(kind, vec![1; 68], vec![2; 256]).is_err());
        }
        tpm.new_node_key().unwrap();
    }
}

#[test]
fn a_credential_for_another_attestation_key_is_not_activated() {
    let machine = Machine::new();
    let tpm = machine.open();
    let mut name = name_of(&tpm.attestation_key().unwrap());
    name[5] ^= 1;
    let (id_object, secret) = credential(&machine, &tpm, EkKind::P384, &name);
    assert!(matches!(tpm.activate(EkKind::P384, id_object, secret), Err(TpmError::Refused(_))));
}

#[test]
fn quote_and_certification_are_signed_by_the_attestation_key_over_what_was_asked() {
    let machine = Machine::new();
    let tpm = machine.open();
    machine.tpm.extend(7, [9; 32]).unwrap();
    let (quote, values) = tpm.quote(0x000b, BOOT_PCRS.to_vec(), [5; 32]).unwrap();
    assert_eq!(values.len(), 8);
    assert_ne!(values[7], vec![0; 32]);
    let ak = point(&tpm.attestation_key().unwrap());
    for (signed, kind) in [(&quote, 0x8018_u16), (&tpm.certify(&tpm.new_node_key().unwrap(), [5; 32]).unwrap(), 0x8017)]
    {
        assert_eq!(signed.attest[..6], [&0xff54_4347_u32.to_be_bytes()[..], &kind.to_be_bytes()].concat());
        assert!(signed.attest.windows(32).any(|w| w == [5; 32]), "the qualifying data");
        let (r, s) = (&signed.signature[6..38], &signed.signature[40..72]);
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &ak)
            .verify(&signed.attest, &[r, s].concat())
            .unwrap();
    }
    let digest = digest::digest(&digest::SHA256, &values.concat());
    assert!(quote.attest.ends_with(digest.as_ref()));
}

#[test]
fn more_than_eight_pcrs_are_read_in_order() {
    let machine = Machine::new();
    machine.tpm.extend(11, [1; 32]).unwrap();
    let (_, values) = machine.open().quote(0x000b, (0..16).collect(), [0; 32]).unwrap();
    let changed: Vec<usize> = (0..16).filter(|at| values[*at] != vec![0; 32]).collect();
    assert_eq!(changed, [11]);
}

/// A handle of ours may be another's key after the slots were emptied: its answer, or its refusal, was taken for ours.
#[test]
fn handles_that_went_to_other_keys_are_not_used() {
    let machine = Machine::new();
    let tpm = machine.open();
    let key = tpm.new_node_key().unwrap();
    let name = name_of(&tpm.attestation_key().unwrap());
    let (id_object, secret) = credential(&machine, &tpm, EkKind::P384, &name);
    // Both keys are loaded, in this order.
    let load = || (tpm.quote(0x000b, vec![0], [0; 32]).unwrap(), check_signature(&tpm, &key));
    let usurp = || {
        machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
        let context = machine.dir.path().join("usurper.ctx");
        // Three slots: whatever numbers we held are theirs now.
        for _ in 0..3 {
            let primary = ["-C", "n", "-G", "ecc256:ecdsa-sha256", "-a", SIGNER, "-c", context.to_str().unwrap()];
            machine.tpm.tool("tpm2_createprimary", &primary).unwrap();
        }
    };
    load();
    usurp();
    check_signature(&tpm, &key);
    load();
    usurp();
    let certified = tpm.certify(&key, [5; 32]).unwrap().attest;
    assert!(certified.windows(34).any(|w| w == name_of(&key.public)), "another key was certified");
    load();
    usurp();
    tpm.quote(0x000b, vec![0], [0; 32]).unwrap();
    load();
    usurp();
    assert_eq!(tpm.activate(EkKind::P384, id_object.clone(), secret.clone()).unwrap().as_slice(), SECRET);
    // The slots are empty, and the first key that is loaded takes the number we think is the attestation key's.
    load();
    machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    assert_eq!(tpm.activate(EkKind::P384, id_object, secret).unwrap().as_slice(), SECRET);
    load();
    machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    csr(TpmKey::new(tpm.clone(), tpm.new_node_key().unwrap()).unwrap().as_ref()).unwrap();
}

#[test]
fn a_bank_that_the_tpm_does_not_keep_is_told_and_not_quoted() {
    let machine = Machine::new();
    let error = machine.open().quote(0x000c, BOOT_PCRS.to_vec(), [0; 32]).unwrap_err();
    assert!(error.to_string().contains("bank"), "{error}");
}

#[test]
fn keys_work_on_after_a_reboot_and_after_others_emptied_the_tpm() {
    let machine = Machine::new();
    let tpm = machine.open();
    let key = tpm.new_node_key().unwrap();
    check_signature(&tpm, &key);
    machine.tpm.power_cycle().unwrap();
    check_signature(&tpm, &key);
    machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    check_signature(&tpm, &key);
    tpm.certify(&key, [1; 32]).unwrap();
    machine.tpm.suspend().unwrap();
    tpm.quote(0x000b, BOOT_PCRS.to_vec(), [0; 32]).unwrap();
}

#[test]
fn a_node_key_is_lost_with_tpm_clear() {
    let machine = Machine::new();
    let tpm = machine.open();
    let key = tpm.new_node_key().unwrap();
    tpm.check_node_key(&key).unwrap();
    machine.tpm.clear().unwrap();
    assert!(tpm.check_node_key(&key).is_err());
    tpm.new_node_key().unwrap();
}

#[test]
fn a_node_key_of_another_tpm_does_not_load() {
    let machine = Machine::new();
    let other = Machine::new();
    // The same manufactured memory: a clear gives the other one a storage seed of its own.
    other.tpm.clear().unwrap();
    let key = machine.open().new_node_key().unwrap();
    assert!(other.open().check_node_key(&key).is_err());
}

#[test]
fn many_callers_are_all_served() {
    let machine = Machine::new();
    let tpm = machine.open();
    let keys = Arc::new([tpm.new_node_key().unwrap(), tpm.new_node_key().unwrap()]);
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (tpm, keys) = (tpm.clone(), Arc::clone(&keys));
            std::thread::spawn(move || (0..10).for_each(|_| check_signature(&tpm, &keys[caller % 2])))
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

#[test]
fn a_missing_tpm_is_one_line_that_says_where_it_was_looked_for() {
    let machine = Machine::new();
    for tcti in ["device:/nonexistent/tpmrm0", "swtpm:host=127.0.0.1,port=2"] {
        let mut options = machine.options(Bus::Internal);
        options.tcti = tcti.parse().unwrap();
        let line = Tpm::open(options).unwrap_err().to_string();
        assert!(!tcti.starts_with("device") || line.contains("No such file"), "{line}");
        assert!(line.contains(tcti) && line.contains("tss") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_csr_is_signed_in_the_tpm() {
    let machine = Machine::new();
    let tpm = machine.open();
    let blob = tpm.new_node_key().unwrap();
    let key = TpmKey::new(tpm, blob).unwrap();
    let csr = chancery_core::csr::Csr::parse(&csr(key.as_ref()).unwrap()).unwrap();
    assert!(csr.spki_der().ends_with(key.point()));
}

#[test]
fn the_endorsement_hierarchys_auth_is_used_where_the_host_sets_one() {
    let machine = Machine::new();
    machine.tpm.tool("tpm2_changeauth", &["-c", "e", "secret"]).unwrap();
    assert!(machine.open().attestation_key().is_err());
    let mut options = machine.options(Bus::Internal);
    options.endorsement_auth = b"secret".to_vec().into();
    let tpm = Tpm::open(options).unwrap();
    let name = name_of(&tpm.attestation_key().unwrap());
    let all = tpm.endorsements().unwrap();
    let (id_object, secret) = credential_to(&machine, &spki_key(&all[1]), &name);
    assert_eq!(tpm.activate(EkKind::Rsa2048, id_object, secret).unwrap().as_slice(), SECRET);
}

/// What the credentials of these tests hide.
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// A credential made by another implementation for the EK that the certificate names.
fn credential(machine: &Machine, tpm: &Tpm, kind: EkKind, ak_name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let all = tpm.endorsements().unwrap();
    if let Some(ek) = all.iter().find(|ek| ek.kind == kind) {
        return credential_to(machine, &spki_key(ek), ak_name);
    }
    // swtpm issues no P-256 EK certificate; the EK itself is there.
    let public = machine.dir.path().join("p256.pub");
    let context = machine.dir.path().join("p256.ctx");
    let (public, context) = (public.to_str().unwrap(), context.to_str().unwrap());
    machine.tpm.tool("tpm2_createek", &["-c", context, "-G", "ecc", "-u", public]).unwrap();
    machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    let made = make_credential(machine, Path::new(public), ak_name);
    machine.tpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    made
}

fn credential_to(machine: &Machine, key: &EkKey, ak_name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let area = ek_public(key);
    let file = machine.dir.path().join("ek.pub");
    std::fs::write(&file, [&u16::try_from(area.len()).unwrap().to_be_bytes()[..], &area].concat()).unwrap();
    make_credential(machine, &file, ak_name)
}

fn make_credential(machine: &Machine, ek: &Path, ak_name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (secret, blob) = (machine.dir.path().join("secret"), machine.dir.path().join("blob"));
    std::fs::write(&secret, SECRET).unwrap();
    let (ek, secret, blob) = (ek.to_str().unwrap(), secret.to_str().unwrap(), blob.to_str().unwrap());
    let name = hex::encode(ak_name);
    machine.tpm.tool("tpm2_makecredential", &["-u", ek, "-s", secret, "-n", &name, "-o", blob]).unwrap();
    // Magic and version, then TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    let bytes = std::fs::read(blob).unwrap();
    let (id_object, rest) = sized(&bytes[8..]);
    (id_object.to_vec(), sized(rest).0.to_vec())
}

fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (&bytes[2..2 + len], &bytes[2 + len..])
}

fn spki_key(ek: &Endorsement) -> EkKey {
    let spki = &ek.spki;
    match ek.kind {
        EkKind::P384 => {
            let point = &spki[spki.len() - 96..];
            EkKey::P384 { x: point[..48].try_into().unwrap(), y: point[48..].try_into().unwrap() }
        }
        EkKind::Rsa2048 => {
            let modulus = &spki[spki.len() - 5 - 256..spki.len() - 5];
            EkKey::Rsa2048 { modulus: modulus.try_into().unwrap() }
        }
        EkKind::P256 => unreachable!("swtpm issues no such certificate"),
    }
}

/// Name of a TPMT_PUBLIC: algorithm and hash.
fn name_of(public: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0b], digest::digest(&digest::SHA256, public).as_ref()].concat()
}

fn point(public: &[u8]) -> Vec<u8> {
    let (x, rest) = sized(&public[FIXED..]);
    [&[4], x, sized(rest).0].concat()
}

fn check_signature(tpm: &Tpm, key: &NodeKeyBlob) {
    let key = TpmKey::new(tpm.clone(), key.clone()).unwrap();
    let signed = key.sign(b"message").unwrap();
    signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key.point())
        .verify(b"message", &signed)
        .unwrap();
}

/// Tests here end by themselves; this only keeps the emulator's guard in use.
#[test]
fn an_emulator_that_is_stopped_is_a_refusal_and_not_a_hang() {
    let machine = Machine::new();
    let tpm = machine.open();
    tpm.attestation_key().unwrap();
    let Machine { tpm: emulator, dir: _dir } = machine;
    emulator.stop();
    let began = std::time::Instant::now();
    assert!(tpm.new_node_key().is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
}
