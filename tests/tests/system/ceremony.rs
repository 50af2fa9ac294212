//! An offline root in a token, and a CA whose authorities it signs: from the ceremony to an agent's SVID.
//!
//! Runs itself again in a child with SoftHSM2's environment; the daemons inherit it.

use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use chancery_hsm::{PIN, Site, in_child, site, softhsm2, softhsm2_token};
use chancery_sdk::{
    id::TrustDomain,
    x509::{self, X509Bundle, X509BundleSet},
};
use chancery_tests::{
    playground::Binaries,
    process::{Process, run, tail, until},
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::support::SOON;

const DOMAIN: &str = "ceremony.test";
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// The room of the ceremony and the machine of the CA, in one folder.
struct Place {
    folder: tempfile::TempDir,
    bin: Binaries,
    site: Site,
}

impl Place {
    fn new(site: Site) -> Self {
        let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
        softhsm2_token(site.pin_file.parent().unwrap(), "ca-keys").unwrap();
        Self { folder, bin: Binaries::find().unwrap(), site }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn ca(&self, args: &[&str]) -> Result<String, String> {
        run(&self.bin.path("chancery-ca"), args)
    }

    /// A table that names a key in the root's token.
    fn token(&self, label: &str) -> String {
        let (module, uri, pin) = (&self.site.module, &self.site.uri, &self.site.pin_file);
        format!("module = {module:?}\nuri = {uri:?}\npin_file = {pin:?}\nlabel = \"{label}\"\n")
    }

    /// Holds a ceremony; its transcript.
    fn hold(&self, text: &str, more: &[&str]) -> Result<Value, String> {
        fs::write(self.path("ceremony.toml"), text).unwrap();
        let config = self.text("ceremony.toml");
        let said = self.ca(&[&["ceremony", "--config", &config], more].concat())?;
        Ok(serde_json::from_str(&said).unwrap())
    }

    fn refused(&self, text: &str) -> String {
        self.hold(text, &[]).unwrap_err()
    }

    fn root(&self, label: &str, name: &str) -> String {
        format!(
            "kind = \"root\"\ntrust_domain = \"{DOMAIN}\"\nlife = \"3650d\"\npath_length = 1\n[key]\ntype = \"ec-p384\"\n{}\
             [output]\ncertificate = \"{name}.pem\"\ntranscript = \"{name}.json\"\n",
            self.token(label)
        )
    }

    fn intermediate(&self, label: &str, csr: &str, name: &str) -> String {
        format!(
            "kind = \"intermediate\"\ntrust_domain = \"{DOMAIN}\"\nlife = \"365d\"\npath_length = 0\n[issuer]\n\
             certificate = \"root.pem\"\n{}[request]\ncsr = \"{csr}\"\n[output]\ncertificate = \"{name}.pem\"\n\
             transcript = \"{name}.json\"\n",
            self.token(label)
        )
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).unwrap()
    }

    /// The CA of this place, started and not ready.
    fn start_ca(&self) -> Online<'_> {
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\nadmin_socket = {:?}\n\
             node_attestors = [\"join_token\"]\n\n[upstream]\nkind = \"offline\"\n\n[keys]\nstore = \"pkcs11\"\n\n\
             [keys.pkcs11]\nmodule = {:?}\nuri = \"pkcs11:token=ca-keys\"\npin_file = {:?}\n",
            self.path("data"),
            self.path("admin.sock"),
            self.site.module,
            self.site.pin_file
        );
        // The port is told by the log alone; agents need to know it before.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::write(self.path("ca.toml"), text.replace("127.0.0.1:0", &port.to_string())).unwrap();
        self.ca(&["migrate", "--config", &self.text("ca.toml")]).unwrap();
        let program = self.bin.path("chancery-ca");
        let process =
            Process::start("chancery-ca", &program, &["run", "--config", &self.text("ca.toml")], &self.path("ca.log"));
        let mut online = Online { place: self, process: process.unwrap(), listen: port.to_string() };
        let up = until(SOON, || match online.process.check_running() {
            Err(ended) => Ok(Err(ended)),
            Ok(()) => online.cli(&["authority", "show"]).map(Ok),
        });
        up.and_then(|up| up).unwrap_or_else(|e| panic!("{e}"));
        online
    }
}

struct Online<'a> {
    place: &'a Place,
    process: Process,
    listen: String,
}

impl Online<'_> {
    fn cli(&self, args: &[&str]) -> Result<Value, String> {
        let socket = self.place.text("admin.sock");
        let said = self.place.ca(&[args, &["--socket", &socket, "--output", "json"]].concat())?;
        serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))
    }

    fn ok(&self, args: &[&str]) -> Value {
        self.cli(args).unwrap_or_else(|e| panic!("{e}\n{}", tail(&self.place.path("ca.log"))))
    }

    fn import(&self, chain: &str, roots: Option<&str>) -> Result<Value, String> {
        let (chain, roots) = (self.place.text(chain), roots.map(|name| self.place.text(name)));
        let mut args = vec!["authority", "import", "--chain", &chain];
        roots.iter().for_each(|roots| args.extend(["--bundle", roots.as_str()]));
        self.cli(&args)
    }

    /// An agent's SVID, from an attestor of its own that trusts the ceremony's root.
    fn agents_svid(&self, root: &str) -> Vec<CertificateDer<'static>> {
        let place = self.place;
        let token = self.ok(&["token", "generate", "--ttl", "10m"])["value"].as_str().unwrap().to_owned();
        chancery_daemon::file::write_atomic(&place.path("join-token"), token.as_bytes(), 0o600).unwrap();
        let node = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let parent = format!("spiffe://{DOMAIN}/spire/agent/join_token/{}", hex::encode(node));
        let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
        let id = format!("spiffe://{DOMAIN}/db");
        self.ok(&["entry", "create", "--parent-id", &parent, "--spiffe-id", &id, "--selector", &uid]);
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nca_address = \"{}\"\ntrust_bundle = {:?}\ndata_dir = {:?}\n\
             workload_socket = {:?}\nadmin_socket = {:?}\nnode_attestor = \"join_token\"\njoin_token_file = {:?}\n",
            self.listen,
            place.path(root),
            place.path("node"),
            place.path("w.sock"),
            place.path("a.sock"),
            place.path("join-token")
        );
        chancery_daemon::file::write_atomic(&place.path("attestor.toml"), text.as_bytes(), 0o600).unwrap();
        let (program, config) = (place.bin.path("chancery-attestor"), place.text("attestor.toml"));
        let log = place.path("attestor.log");
        let _attestor = Process::start("chancery-attestor", &program, &["run", "--config", &config], &log).unwrap();
        let (socket, out) = (place.text("w.sock"), place.text("agent"));
        let fetch = || run(&program, &["fetch", "x509", "--socket", &socket, "--write", &out]).map(drop);
        until(SOON, fetch).unwrap_or_else(|e| panic!("{e}\n{}", tail(&log)));
        let svid = CertificateDer::pem_file_iter(place.path("agent/svid.0.pem")).unwrap();
        svid.collect::<Result<_, _>>().unwrap()
    }
}

/// Ourselves at the root's token.
struct Hands {
    session: Session,
}

impl Hands {
    fn at(site: &Site) -> Self {
        let context = Pkcs11::new(&site.module).unwrap();
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slots = context.get_slots_with_initialized_token().unwrap();
        let is_root = |slot: &cryptoki::slot::Slot| context.get_token_info(*slot).unwrap().label().trim() == "root-a";
        let slot = slots.into_iter().find(is_root).unwrap();
        let session = context.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
        Self { session }
    }

    fn private_keys(&self) -> usize {
        self.session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap().len()
    }

    /// A key that could be taken out of its token; its public half as OpenSSL would have it is nobody's business here.
    fn make_extractable(&self, label: &str) {
        let named = Attribute::Label(label.into());
        let public = [Attribute::Token(true), named.clone(), Attribute::EcParams(P256.to_vec())];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
            Attribute::Sign(true),
            named,
        ];
        self.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
    }

    /// The public half of a P-256 key, SubjectPublicKeyInfo.
    fn spki(&self, label: &str) -> Vec<u8> {
        let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Label(label.into())];
        let found = self.session.find_objects(&wanted).unwrap();
        let read = self.session.get_attributes(found[0], &[cryptoki::object::AttributeType::EcPoint]).unwrap();
        let Some(Attribute::EcPoint(point)) = read.first() else { panic!("no point") };
        let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        // An OCTET STRING of 65 bytes.
        [head.as_slice(), &point[2..]].concat()
    }
}

/// `openssl` as an outside oracle; nothing where it is not installed.
fn openssl(args: &[&str]) -> Option<Result<String, String>> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not installed, so it judged nothing");
        return None;
    }
    Some(run(Path::new("openssl"), args))
}

fn with_tokens(test: &str, body: impl FnOnce(Place)) {
    if let Some(site) = site() {
        return body(Place::new(site));
    }
    assert!(!in_child(&format!("ceremony::{test}"), &softhsm2("root-a").unwrap()));
}

#[test]
fn a_root_in_a_token_signs_a_ca_in_a_token_and_an_agents_svid_verifies_from_it() {
    with_tokens("a_root_in_a_token_signs_a_ca_in_a_token_and_an_agents_svid_verifies_from_it", |place| {
        let told = place.hold(&place.root("root-2026", "root"), &[]).unwrap();
        assert_eq!((&told["token"]["label"], &told["token"]["key_label"]), (&"root-a".into(), &"root-2026".into()));
        for part in ["manufacturer", "model", "serial", "firmware"] {
            assert!(told["token"][part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {told}");
        }
        let online = place.start_ca();
        waits(&online);
        let asked = online.ok(&["authority", "csr", "--write", &place.text("ca.csr")]);
        let again = online.ok(&["authority", "csr"]);
        assert_eq!(asked["spki_sha256"], again["spki_sha256"]);
        assert!(
            online.cli(&["authority", "csr", "--write", &place.text("ca.csr")]).unwrap_err().contains("exists already")
        );
        let hash = asked["spki_sha256"].as_str().unwrap();
        let expected = format!("csr = \"ca.csr\"\nkey_sha256 = \"{hash}\"");
        let text = place.intermediate("root-2026", "ca.csr", "ca").replace("csr = \"ca.csr\"", &expected);
        let told = place.hold(&text, &[]).unwrap();
        assert_eq!(
            (&told["certificate"]["key_sha256"], &told["certificate"]["path_length"]),
            (&hash.into(), &0.into())
        );
        assert!(place.refused(&text).contains("never overwritten"));
        stranger(&place, &online);
        assert!(online.import("ca.pem", None).unwrap_err().contains("append it"));
        let imported = online.import("ca.pem", Some("root.pem")).unwrap();
        assert_eq!(imported["imported_authority"]["state"], "active");
        assert!(online.import("ca.pem", Some("root.pem")).unwrap_err().contains("already"));
        until(SOON, || online.cli(&["healthcheck"])).unwrap_or_else(|e| panic!("{e}\n{}", tail(&place.path("ca.log"))));
        let chain = online.agents_svid("root.pem");
        judged(&place, &chain);
        revoked(&place);
    });
}

/// Before the first import: up, not ready, its door shut, and saying what it waits for.
fn waits(online: &Online<'_>) {
    assert!(online.cli(&["healthcheck"]).unwrap_err().contains("authority csr"));
    assert!(online.ok(&["authority", "show"])["needs"].as_str().unwrap().contains("no X.509 authority signs"));
    let mut door = TcpStream::connect(&online.listen).unwrap();
    door.set_read_timeout(Some(SOON)).unwrap();
    // Closed by the CA, not left waiting.
    let mut byte = [0];
    assert!(matches!(door.read(&mut byte), Ok(0)));
    let log = fs::read_to_string(online.place.path("ca.log")).unwrap();
    assert!(log.contains("waiting: no X.509 authority signs") && !log.contains("own SVID"), "{log}");
}

/// A certificate for a key that this CA never made.
fn stranger(place: &Place, online: &Online<'_>) {
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    fs::write(place.path("other.csr"), csr.pem().unwrap()).unwrap();
    place.hold(&place.intermediate("root-2026", "other.csr", "other"), &[]).unwrap();
    assert!(online.import("other.pem", Some("root.pem")).unwrap_err().contains("no request was made here"));
}

fn judged(place: &Place, chain: &[CertificateDer<'static>]) {
    assert_eq!((chain.len(), &chain[1]), (2, &place.certificate("ca.pem")));
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let mut bundle = X509Bundle::new(domain);
    bundle.insert(place.certificate("root.pem")).unwrap();
    let mut set = X509BundleSet::new();
    set.insert(bundle);
    let peer = x509::verify(chain, &set, chancery_daemon::clock::now()).unwrap();
    assert_eq!(peer.id.to_string(), format!("spiffe://{DOMAIN}/db"));
    let (root, svid) = (place.text("root.pem"), place.text("agent/svid.0.pem"));
    if let Some(said) = openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &svid, &svid]) {
        assert!(said.unwrap().contains(": OK"));
    }
}

/// The root takes the CA back; whoever reads CRLs refuses the chain from then on.
fn revoked(place: &Place) {
    let told: Value = serde_json::from_slice(&fs::read(place.path("ca.json")).unwrap()).unwrap();
    let list = |rows: &str, name: &str, number: &str| {
        format!(
            "kind = \"crl\"\ntrust_domain = \"{DOMAIN}\"\nlife = \"90d\"\n[issuer]\ncertificate = \"root.pem\"\n{}[crl]\n\
             {number}\n{rows}[output]\ncrl = \"{name}.crl\"\ntranscript = \"{name}-crl.json\"\n",
            place.token("root-2026")
        )
    };
    let row = format!(
        "[[crl.revoked]]\nserial = {}\nreason = \"cACompromise\"\ndate = \"2026-01-01T00:00:00Z\"\n",
        told["certificate"]["serial"]
    );
    place.hold(&list("", "1", "number = 1"), &[]).unwrap();
    let made = place.hold(&list(&row, "2", "previous = \"1.crl\""), &[]).unwrap();
    assert_eq!((&made["crl"]["number"], &made["crl"]["revoked"][0]["reason"]), (&2.into(), &"cACompromise".into()));
    let (root, ca) = (place.text("root.pem"), place.text("ca.pem"));
    for (name, good) in [("1", true), ("2", false)] {
        let crl = place.text(&format!("{name}.crl"));
        if let Some(said) = openssl(&["crl", "-in", &crl, "-CAfile", &root, "-noout"]) {
            said.unwrap();
        }
        if let Some(said) = openssl(&["verify", "-crl_check", "-CRLfile", &crl, "-CAfile", &root, &ca]) {
            assert_eq!(said.is_ok(), good, "{said:?}");
            assert!(good || said.unwrap_err().contains("revoked"));
        }
    }
}

#[test]
fn a_ceremony_takes_no_label_twice_and_no_key_that_can_leave_its_token() {
    with_tokens("a_ceremony_takes_no_label_twice_and_no_key_that_can_leave_its_token", |place| {
        let hands = Hands::at(&place.site);
        let told = place.hold(&place.root("root-2026", "root"), &["--dry-run"]).unwrap();
        assert_eq!((&told["dry_run"], &told["outputs"]), (&true.into(), &serde_json::json!([])));
        assert!(told["token"]["key_label"].as_str().unwrap().starts_with("chancery/dry/"), "{told}");
        assert_eq!(hands.private_keys(), 0, "the key of a dry run is gone");
        assert!(!place.path("root.pem").exists());
        let nowhere = place.root("root-2026", "root").replace("\"root.pem\"", "\"no/such/root.pem\"");
        assert!(place.refused(&nowhere).contains("no/such"));
        assert_eq!(hands.private_keys(), 0, "a key of which nothing was made is gone");
        place.hold(&place.root("root-2026", "root"), &[]).unwrap();
        assert_eq!(hands.private_keys(), 1);
        for more in [[].as_slice(), &["--dry-run"]] {
            let refused = place.hold(&place.root("root-2026", "second"), more).unwrap_err();
            assert!(refused.contains("root-2026 exists already"), "{refused}");
        }
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        fs::write(place.path("x.csr"), csr.pem().unwrap()).unwrap();
        assert!(place.refused(&place.intermediate("root-2027", "x.csr", "x")).contains("no key is labelled root-2027"));
        hands.make_extractable("soft");
        assert!(place.refused(&place.intermediate("soft", "x.csr", "x")).contains("not the certificate's"));
        extractable(&place, &hands);
        let wrong = place.root("root-2027", "r").replace("token=root-a", "token=root-b");
        assert!(place.refused(&wrong).contains("root-b"));
        assert_eq!(hands.private_keys(), 2);
    });
}

/// A certificate of the very key, and yet it does not sign.
fn extractable(place: &Place, hands: &Hands) {
    struct Public(Vec<u8>);
    impl rcgen::PublicKeyData for Public {
        fn der_bytes(&self) -> &[u8] {
            &self.0[26..]
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let signer = rcgen::Issuer::from_params(&params, &key);
    let certificate = params.signed_by(&Public(hands.spki("soft")), &signer).unwrap();
    fs::write(place.path("soft.pem"), certificate.pem()).unwrap();
    let text = place.intermediate("soft", "x.csr", "x").replace("\"root.pem\"", "\"soft.pem\"");
    let refused = place.refused(&text);
    assert!(refused.contains("CKA_EXTRACTABLE"), "{refused}");
}
