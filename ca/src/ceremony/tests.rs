use std::{fs, os::unix::fs::PermissionsExt};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

const NOW: UnixTime = UnixTime(1_795_305_600);
const ROOT: &str = r#"
kind = "root"
trust_domain = "example.org"
common_name = "Example Root 2026"
life = "3650d"
path_length = 1
[key]
file = "root.key"
type = "ec-p384"
[output]
certificate = "root.pem"
transcript = "root.json"
"#;
const INTERMEDIATE: &str = r#"
kind = "intermediate"
trust_domain = "example.org"
life = "365d"
path_length = 0
[issuer]
certificate = "root.pem"
key = "root.key"
[request]
csr = "ca.csr"
[output]
certificate = "ca.pem"
transcript = "ca.json"
"#;
const CRL: &str = r#"
kind = "crl"
trust_domain = "example.org"
life = "30d"
[issuer]
certificate = "root.pem"
key = "root.key"
[crl]
number = 1
[[crl.revoked]]
serial = "77"
reason = "keyCompromise"
date = "2026-11-01T00:00:00Z"
[output]
crl = "root.crl"
transcript = "crl.json"
"#;

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A room in which a root was made.
    fn with_root() -> Self {
        let room = Self::new();
        room.hold(ROOT, Run::Real).unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hold(&self, text: &str, run: Run) -> Result<Transcript, CeremonyError> {
        let config = self.path("ceremony.toml");
        fs::write(&config, text).unwrap();
        hold(&config, run, NOW)
    }

    fn refused(&self, text: &str) -> String {
        self.hold(text, Run::Real).unwrap_err().to_string()
    }

    /// Writes a request of a fresh P-256 key; SHA-256 of its SubjectPublicKeyInfo.
    fn request(&self) -> String {
        self.request_of(&KeyPair::generate().unwrap())
    }

    fn request_of(&self, key: &KeyPair) -> String {
        let csr = CertificateParams::default().serialize_request(key).unwrap();
        fs::write(self.path("ca.csr"), csr.pem().unwrap()).unwrap();
        sha256(&rcgen::PublicKeyData::subject_public_key_info(key))
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.0.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn json(transcript: &Transcript) -> Value {
    serde_json::from_str(&transcript.to_json()).unwrap()
}

#[test]
fn a_root_and_a_ca_below_it_are_made_and_written_down() {
    let room = Room::with_root();
    assert_eq!(room.files(), ["ceremony.toml", "root.json", "root.key", "root.pem"]);
    assert_eq!(fs::metadata(room.path("root.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let expected = room.request();
    let told = json(&room.hold(INTERMEDIATE, Run::Real).unwrap());
    assert_eq!(told, serde_json::from_slice::<Value>(&fs::read(room.path("ca.json")).unwrap()).unwrap());
    assert_eq!((&told["kind"], &told["dry_run"]), (&"intermediate".into(), &false.into()));
    assert_eq!(told["certificate"]["key_sha256"], expected.as_str());
    assert_eq!(told["certificate"]["path_length"], 0);
    assert_eq!(told["certificate"]["not_after"], "2027-11-22T00:00:00Z");
    let hashed = |name: &str| sha256(&fs::read(room.path(name)).unwrap());
    let inputs: Vec<_> = told["inputs"].as_array().unwrap().iter().map(|i| i["sha256"].as_str().unwrap()).collect();
    assert_eq!(inputs, [hashed("ceremony.toml"), hashed("root.pem"), hashed("ca.csr")]);
    assert_eq!(told["outputs"][0]["sha256"], hashed("ca.pem").as_str());
    assert_eq!(told["program"]["sha256"].as_str().unwrap().len(), 64);
    assert!(!told.to_string().contains("PRIVATE"));
    let root = file::certificates(&room.path("root.pem")).unwrap();
    let below = file::certificates(&room.path("ca.pem")).unwrap();
    Parent::new(&root[0], file::signer(&room.path("root.key")).unwrap()).unwrap();
    let issuer = x509_parser::parse_x509_certificate(&below[0]).unwrap().1;
    assert_eq!(issuer.issuer().to_string(), told["certificate"]["issuer"].as_str().unwrap());
}

#[test]
fn a_dry_run_does_all_but_the_writing() {
    let room = Room::new();
    let told = json(&room.hold(ROOT, Run::Dry).unwrap());
    assert_eq!((&told["dry_run"], &told["outputs"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(room.files(), ["ceremony.toml"]);
}

#[test]
fn nothing_that_exists_is_overwritten() {
    for name in ["root.key", "root.pem", "root.json"] {
        let room = Room::new();
        fs::write(room.path(name), "mine").unwrap();
        let refused = room.refused(ROOT);
        assert!(refused.contains(name) && refused.contains("never overwritten"), "{refused}");
        assert_eq!(fs::read(room.path(name)).unwrap(), b"mine");
        assert_eq!(room.files().len(), 2, "nothing else was written");
    }
    let room = Room::new();
    fs::write(room.path("taken"), "mine").unwrap();
    assert!(matches!(file::write_new(&room.path("taken"), b"x", 0o600), Err(FileError::Exists(_))));
}

#[test]
fn a_request_that_should_not_be_signed_is_not() {
    let room = Room::with_root();
    let key = room.request();
    let denied = INTERMEDIATE.replace("csr = \"ca.csr\"", &format!("csr = \"ca.csr\"\ndenied = [\"{key}\"]"));
    assert!(room.refused(&denied).contains("denied keys"));
    let other = "0".repeat(64);
    let expected =
        |hex: &str| INTERMEDIATE.replace("csr = \"ca.csr\"", &format!("csr = \"ca.csr\"\nkey_sha256 = \"{hex}\""));
    assert!(room.refused(&expected(&other)).contains("do not sign it"));
    room.hold(&expected(&key.to_uppercase()), Run::Dry).unwrap();
    room.request_of(&KeyPair::generate_for(&PKCS_ED25519).unwrap());
    assert!(room.refused(INTERMEDIATE).contains("P-256, P-384 or RSA"));
    room.request();
    let pem = fs::read_to_string(room.path("ca.csr")).unwrap();
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut altered = der.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(room.path("ca.csr"), file::pem("CERTIFICATE REQUEST", &altered)).unwrap();
    assert!(room.refused(INTERMEDIATE).contains("self-signature"));
    fs::write(room.path("ca.csr"), "no request").unwrap();
    assert!(room.refused(INTERMEDIATE).contains("PKCS#10"));
    assert!(!room.files().contains(&"ca.pem".to_owned()));
}

#[test]
fn an_issuer_that_may_not_sign_does_not() {
    let room = Room::with_root();
    room.request();
    assert!(room.refused(&INTERMEDIATE.replace("365d", "3651d")).contains("after the end"));
    assert!(room.refused(&INTERMEDIATE.replace("path_length = 0", "path_length = 1")).contains("path length"));
    fs::set_permissions(room.path("root.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(room.refused(INTERMEDIATE).contains("chmod 600"));
    fs::set_permissions(room.path("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let other = Room::with_root();
    fs::copy(other.path("root.key"), room.path("root.key")).unwrap();
    assert!(room.refused(INTERMEDIATE).contains("another key"));
}

#[test]
fn every_fault_of_the_configuration_names_its_key() {
    let room = Room::with_root();
    for (text, key) in [
        (ROOT.replace("kind = \"root\"", "kind = \"leaf\""), "`leaf`"),
        (ROOT.replace("kind = \"root\"", "kind = \"crl\""), "\"crl\" needs [issuer] and [crl]"),
        (ROOT.replace("kind = \"root\"", "kind = \"cross-sign\""), "[subject]"),
        (ROOT.replace("path_length = 1\n", ""), "path_length"),
        (ROOT.replace("type = \"ec-p384\"", ""), "key.type"),
        (ROOT.replace("file = \"root.key\"", ""), "module"),
        (ROOT.replace("file = \"root.key\"", "file = \"k\"\nlabel = \"l\""), "module"),
        (
            ROOT.replace("file = \"root.key\"", "module = \"m.so\"\nuri = \"pkcs11:token=a\"\nlabel = \"l\""),
            "whole path",
        ),
        (ROOT.replace("certificate = \"root.pem\"", "crl = \"root.crl\""), "output.certificate"),
        (INTERMEDIATE.replace("key = \"root.key\"", "file = \"root.key\""), "[key]'s"),
        (CRL.replace("number = 1", ""), "crl.previous"),
        (CRL.replace("keyCompromise", "certificateHold"), "certificateHold"),
        (CRL.replace("\"77\"", "\"7x\""), "serial number"),
        (CRL.replace("2026-11-01T00:00:00Z", "yesterday"), "date"),
        (CRL.replace("life = \"30d\"", "life = \"30d\"\npath_length = 1"), "path_length"),
        (CRL.replace("life = \"30d\"", "life = \"30d\"\ncommon_name = \"x\""), "common_name"),
        (ROOT.replace("life = \"3650d\"", "life = \"1m\""), "life"),
        (ROOT.replace("path_length = 1", "path_length = 0"), "path_length"),
        (ROOT.replace("path_length = 1", "path_length = 9"), "path_length"),
        (ROOT.replace("path_length = 1", "path_length = 1\ncolour = 1"), "colour"),
        (ROOT.replace("Example Root 2026", ""), "common_name"),
        (ROOT.replace("example.org", "Example Org"), "trust_domain"),
        (ROOT.replace("ec-p384", "ed25519"), "`ed25519`"),
        (format!("{ROOT}\n[request]\ncsr = \"x\""), "[request]"),
        (INTERMEDIATE.replace("csr = \"ca.csr\"", "csr = \"x\"\ndenied = [\"abc\"]"), "request"),
        (INTERMEDIATE.replace("[issuer]\ncertificate = \"root.pem\"\nkey = \"root.key\"", ""), "[issuer]"),
    ] {
        let refused = room.refused(&text);
        assert!(refused.contains(key), "{key}: {refused}");
    }
}

/// The next list in a room that has one.
fn next(crl: &str) -> String {
    let next = CRL
        .replace("number = 1", "previous = \"root.crl\"")
        .replace("output]\ncrl = \"root.crl\"", "output]\ncrl = \"2.crl\"");
    next.replace("crl.json", "2.json").replace("\"77\"", crl)
}

#[test]
fn a_list_goes_on_from_the_one_before_and_forgets_nothing() {
    let room = Room::with_root();
    let told = json(&room.hold(CRL, Run::Real).unwrap());
    assert_eq!((&told["crl"]["number"], &told["certificate"]), (&1.into(), &Value::Null));
    assert_eq!(told["crl"]["next_update"], "2026-12-22T00:00:00Z");
    let told = json(&room.hold(&next("\"0x4e\""), Run::Real).unwrap());
    assert_eq!(told["crl"]["number"], 2);
    let serials: Vec<_> = told["crl"]["revoked"].as_array().unwrap().iter().map(|r| r["serial"].as_str()).collect();
    assert_eq!(serials, [Some("77"), Some("78")]);
    assert_eq!(told["inputs"].as_array().unwrap().len(), 3);
    assert!(fs::read_to_string(room.path("2.crl")).unwrap().contains("BEGIN X509 CRL"));
}

#[test]
fn a_list_that_contradicts_the_one_before_is_not_made() {
    let room = Room::with_root();
    room.hold(CRL, Run::Real).unwrap();
    let good = next("\"77\"");
    room.hold(&good, Run::Dry).unwrap();
    assert!(room.refused(&good.replace("keyCompromise", "superseded")).contains("already"));
    assert!(room.refused(&good.replace("2026-11-01", "2026-11-02")).contains("already"));
    assert!(room.refused(&good.replace("[crl]", "[crl]\nnumber = 1")).contains("not above 1"));
    assert!(room.refused(&next("\"79\"").replace("2026-11-01", "2027-11-01")).contains("still to come"));
    let root = file::certificates(&room.path("root.pem")).unwrap();
    let own = x509_parser::parse_x509_certificate(&root[0]).unwrap().1.serial.to_string();
    assert!(room.refused(&next(&format!("\"{own}\""))).contains("itself"));
    let other = Room::with_root();
    other.hold(CRL, Run::Real).unwrap();
    fs::copy(other.path("root.crl"), room.path("root.crl")).unwrap();
    assert!(room.refused(&good).contains("another CA"));
    assert!(!room.files().contains(&"2.crl".to_owned()));
}

#[test]
fn a_root_is_certified_by_another_one() {
    let (old, new) = (Room::new(), Room::with_root());
    old.hold(&ROOT.replace("path_length = 1", "path_length = 2"), Run::Real).unwrap();
    fs::copy(new.path("root.pem"), old.path("new.pem")).unwrap();
    let text = r#"
kind = "cross-sign"
trust_domain = "example.org"
life = "365d"
path_length = 1
[issuer]
certificate = "root.pem"
key = "root.key"
[subject]
certificate = "new.pem"
[output]
certificate = "cross.pem"
transcript = "cross.json"
"#;
    let told = json(&old.hold(text, Run::Real).unwrap());
    let of = |room: &Room, name: &str| file::certificates(&room.path(name)).unwrap().remove(0);
    let (own, cross) = (of(&new, "root.pem"), of(&old, "cross.pem"));
    assert_eq!(told["certificate"]["key_sha256"], sha256(&x509::spki_of(&own).unwrap()).as_str());
    assert_eq!(x509::spki_of(&own).unwrap(), x509::spki_of(&cross).unwrap());
    let again = text.replace("cross.pem", "2.pem").replace("cross.json", "2.json");
    let hash = "0".repeat(64);
    let denied = again.replace("\"new.pem\"", &format!("\"new.pem\"\nkey_sha256 = \"{hash}\""));
    assert!(old.refused(&denied).contains("do not sign it"));
    assert!(old.refused(&again.replace("\"new.pem\"", "\"root.pem\"")).contains("key of the CA that signs"));
    assert!(old.refused(&again.replace("365d", "3651d")).contains("after the end"));
}
