//! A CA in a folder of its own, for the tests of this crate.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chancery_core::{
    entry::{self, Rights},
    leaf::{self, Leaf},
    lifetime::{Limits, Profile},
    node::{CertRef, Node},
};
use chancery_daemon::{clock::Clock, shutdown::Shutdown};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

use crate::{
    config::Config,
    crypto::{self, KeyPair},
    entries,
    run::{self, Running},
    state::State,
    store::{AdmitNode, Fact, Store},
    tls::Tls,
};

/// The realm of every test.
pub fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// A configuration whose files are all in `dir`.
pub fn config(dir: &std::path::Path, extra: &str) -> Config {
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"{0}/data\"\nlisten = \"127.0.0.1:0\"\n\
         admin_socket = \"{0}/s/admin.sock\"\nnode_attestors = [\"join_token\", \"tpm\"]\n{extra}",
        dir.display()
    );
    chancery_daemon::config::parse(&text).unwrap()
}

/// A clock that stands still until it is set.
#[derive(Clone, Default)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    /// The wall clock's time, stopped.
    pub fn now() -> Self {
        let hand = Self::default();
        hand.set(chancery_daemon::clock::now());
        hand
    }

    pub fn set(&self, to: UnixTime) {
        self.0.store(to.0, Ordering::SeqCst);
    }

    pub fn read(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }

    pub fn clock(&self) -> Clock {
        let hand = self.clone();
        Arc::new(move || hand.read())
    }
}

/// A migrated, empty database.
pub async fn store(dir: &std::path::Path) -> Store {
    let path = dir.join("ca.sqlite3").display().to_string();
    Store::migrate(&path).await.unwrap();
    Store::open(&path, "s1").await.unwrap()
}

/// The parts of a CA, no door open.
pub async fn parts(dir: &std::path::Path, clock: Clock) -> (Arc<State>, Tls) {
    parts_with(dir, clock, "").await
}

/// The parts of a CA with more in its configuration.
pub async fn parts_with(dir: &std::path::Path, clock: Clock, extra: &str) -> (Arc<State>, Tls) {
    let config = prepared(dir, extra).await;
    let (state, tls, _) = run::assemble(config, Shutdown::manual(), clock).await.unwrap();
    (state, tls)
}

/// Why a CA with this configuration does not start.
pub async fn refused_parts(dir: &std::path::Path, clock: Clock, extra: &str) -> String {
    let config = prepared(dir, extra).await;
    match run::assemble(config, Shutdown::manual(), clock).await {
        Ok(_) => panic!("it starts"),
        Err(refused) => refused.to_string(),
    }
}

/// A CA that serves on loopback.
pub async fn running(dir: &std::path::Path) -> Running {
    let config = prepared(dir, "").await;
    run::start(config, Shutdown::manual(), chancery_daemon::clock::system()).await.unwrap()
}

/// A configuration over a migrated, empty database; `extra` comes last.
pub async fn prepared(dir: &std::path::Path, extra: &str) -> Config {
    let config = config(dir, extra);
    std::fs::create_dir_all(&config.data_dir).unwrap();
    Store::migrate(&config.database()).await.unwrap();
    config
}

/// A decided leaf of `secs` for a fresh key.
pub fn leaf(now: UnixTime, issuer: UnixTime, secs: i64) -> (Leaf, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let validity = Profile::new(secs, secs).unwrap().clamp(0, Limits { issuer, node: None }, now).unwrap();
    (leaf::for_server(&domain(), &key.spki, validity, crypto::serial().unwrap()).unwrap(), key)
}

/// ID of a test node.
pub fn node_id(name: &str) -> SpiffeId {
    SpiffeId::from_segments(&domain(), &["spire", "agent", "join_token", name]).unwrap()
}

/// Admits a node with a certificate of this serial; a second one becomes fresh.
pub async fn admit(state: &State, name: &str, serial: &str) -> Node {
    let id = node_id(name);
    let stored = state.store.node(&id).await.unwrap();
    let mut node = stored.clone().unwrap_or(Node {
        id: id.clone(),
        attestation_type: "join_token".into(),
        standing: chancery_core::node::Standing::Good,
        reason: String::new(),
        current: None,
        fresh: None,
        selectors: Default::default(),
        can_reattest: true,
        agent_version: String::new(),
        attested_at: state.now(),
        version: 0,
        boot: Vec::new(),
        tpm: None,
        pkcs11: None,
    });
    node.attested_at = state.now();
    let svid_key = chancery_core::crypto::sha256(&[name.as_bytes(), serial.as_bytes()]);
    let fact = AdmitNode {
        node,
        cert: CertRef { serial: serial.into(), expires_at: state.now().plus(3600) },
        authority: state.authority.x509_id().unwrap(),
        expected_version: stored.map(|n| n.version),
        spend_token: None,
        require_enrolled: false,
        require_key_enrolled: false,
        svid_key,
        ends_instances: false,
        steps: Vec::new(),
        evidence: None,
        kept: None,
        source: "192.0.2.1".into(),
    };
    state.commit(Fact::AdmitNode(fact)).await.unwrap().done().unwrap();
    state.store.node(&id).await.unwrap().unwrap()
}

/// Makes an entry for `path` with these rights; its SPIFFE ID.
pub async fn entry_with(state: &State, path: &str, rights: Rights) -> SpiffeId {
    let id = SpiffeId::from_path(&domain(), path).unwrap();
    let draft = entry::Draft {
        id: String::new(),
        spiffe_id: Some(id.clone()),
        parent_id: Some(node_id("n1")),
        selectors: ["unix:uid:1".parse().unwrap()].into(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights,
        expires_at: 0,
        dns_names: Vec::new(),
        hint: String::new(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    };
    entries::create(state, draft).await.unwrap();
    id
}
