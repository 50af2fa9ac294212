//! Handshakes by SPIFFE ID, over pipes in memory.
#![cfg(feature = "client")]

mod support;

use std::{io::ErrorKind, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::SpiffeId,
    peer::{Acceptor, Connector, GuardedStream, RECHECK},
    revocation::{Hold, Revocation, Scope},
    time::UnixTime,
    tls::{self, Allow, ClientCertificate, Clock, CurrentSvid, H2, HTTP1, LiveRevocations, PeerVerifier, system_clock},
    x509::{self, X509BundleSet},
};
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;
use support::{
    pki::{Authority, Issued},
    tokio_clock,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

/// One end: who it is, whom it trusts, whom it welcomes.
struct End {
    current: Arc<CurrentSvid>,
    bundles: Arc<ArcSwap<X509BundleSet>>,
    verifier: Arc<PeerVerifier>,
}

impl End {
    fn new(issued: &Issued, trusts: &Authority, allow: Allow) -> Self {
        Self::with_clock(issued, trusts, allow, system_clock())
    }

    fn with_clock(issued: &Issued, trusts: &Authority, allow: Allow, clock: Clock) -> Self {
        let current = CurrentSvid::empty(tls::provider(), clock.clone());
        present(&current, issued);
        let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(trusts.bundle())));
        let verifier = PeerVerifier::new(tls::provider(), bundles.clone(), allow, clock);
        Self { current: Arc::new(current), bundles, verifier: Arc::new(verifier) }
    }

    fn acceptor(&self) -> Acceptor {
        Acceptor::new(self.verifier.clone(), self.current.clone(), &[H2]).unwrap()
    }

    fn connector(&self) -> Connector {
        Connector::new(self.verifier.clone(), self.current.clone(), &[H2]).unwrap()
    }
}

/// Presents even what `X509Svid` would refuse to load, as a hostile peer does.
fn present(current: &CurrentSvid, issued: &Issued) {
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(issued.key.clone().into());
    let key = tls::provider().key_provider.load_private_key(key).unwrap();
    let chain = vec![issued.chain.clone().into()];
    let key = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
    current.set_certified(key, support::now().plus(1_000_000));
}

type Guarded = std::io::Result<GuardedStream<DuplexStream>>;

/// Server's and client's outcome of one handshake.
async fn meet(server: &End, client: &End) -> (Guarded, Guarded) {
    let (near, far) = duplex(1 << 16);
    let (acceptor, connector) = (server.acceptor(), client.connector());
    tokio::join!(acceptor.accept(near), connector.connect(far))
}

fn td(authority: &Authority) -> Allow {
    Allow::trust_domain(&authority.domain)
}

fn pair(authority: &Authority, client: &Issued) -> (End, End) {
    let server = End::new(&authority.issue("/server"), authority, td(authority));
    (server, End::new(client, authority, td(authority)))
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let (at_server, at_client) = meet(&server, &client).await;
    assert_eq!(at_server.unwrap().peer().id().as_str(), "spiffe://example.org/client");
    let at_client = at_client.unwrap();
    assert_eq!(at_client.peer().id().as_str(), "spiffe://example.org/server");
    let (_, state) = at_client.get_ref();
    assert_eq!(state.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(state.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn the_second_connection_makes_a_full_handshake_too() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let (acceptor, connector) = (server.acceptor(), client.connector());
    for _ in 0..3 {
        let (near, far) = duplex(1 << 16);
        let (at_server, at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
        let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
        // A ticket would arrive with the first data.
        at_server.write_all(b"x").await.unwrap();
        assert_eq!(at_client.read_u8().await.unwrap(), b'x');
        // The hybrid key share may cost a second round trip, never a resumption.
        for state in [at_server.get_ref().1, at_client.get_ref().1] {
            assert_ne!(state.handshake_kind(), Some(HandshakeKind::Resumed));
            assert!(matches!(
                state.handshake_kind(),
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
            ));
        }
    }
}

#[tokio::test]
async fn a_rustls_client_that_wants_to_resume_makes_a_full_handshake() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let mut config = tls::client_config(client.verifier.clone(), client.current.clone(), &[H2]).unwrap();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let acceptor = server.acceptor();
    for _ in 0..2 {
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("same.name").unwrap();
        let (at_server, at_client) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
        at_server.write_all(b"x").await.unwrap();
        assert_eq!(at_client.read_u8().await.unwrap(), b'x');
        assert_ne!(at_client.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn a_rotated_certificate_is_presented_by_configurations_made_before() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let (acceptor, connector) = (server.acceptor(), client.connector());
    let mut serials = Vec::new();
    for _ in 0..2 {
        let (near, far) = duplex(1 << 16);
        let (_at_server, at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
        serials.push(at_client.unwrap().peer().serial_decimal().to_owned());
        present(&server.current, &authority.issue("/server"));
    }
    assert_ne!(serials[0], serials[1]);
}

#[tokio::test]
async fn a_new_root_counts_and_an_old_one_stops_counting_at_once() {
    let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
    let server = End::new(&old.issue("/server"), &old, td(&old));
    let client = End::new(&new.issue("/client"), &old, td(&old));
    assert!(meet(&server, &client).await.0.is_err());
    server.bundles.store(Arc::new(new.bundle().into()));
    assert!(meet(&server, &client).await.0.is_ok());
    present(&client.current, &old.issue("/client"));
    assert!(meet(&server, &client).await.0.is_err());
}

#[tokio::test]
async fn wa_18_a_peer_is_verified_by_the_bundle_of_its_own_trust_domain() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    let server = End::new(&ours.issue("/server"), &ours, Allow::custom(|_| true));
    // Our root's domain name, their root's signature.
    let client = End::new(&theirs.issue("/client"), &ours, td(&ours));
    assert!(meet(&server, &client).await.0.is_err());
    let mut both = X509BundleSet::from(ours.bundle());
    both.insert(theirs.bundle());
    server.bundles.store(Arc::new(both));
    assert!(meet(&server, &client).await.0.is_ok());
}

#[tokio::test]
async fn wa_19_a_peer_without_a_bundle_of_its_domain_is_refused_in_the_handshake() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    let server = End::new(&theirs.issue("/server"), &ours, Allow::custom(|_| true));
    let client = End::new(&ours.issue("/client"), &ours, Allow::custom(|_| true));
    assert!(meet(&server, &client).await.1.is_err());
}

#[tokio::test]
async fn an_expired_peer_is_refused_in_both_roles() {
    let authority = Authority::new("example.org");
    let expired = authority.issue_between("/client", -60, -1);
    let (server, client) = pair(&authority, &expired);
    for outcome in [meet(&server, &client).await.0, meet(&client, &server).await.1] {
        let fault = format!("{:?}", outcome.unwrap_err());
        assert!(fault.contains("Expired"), "{fault}");
    }
}

#[tokio::test]
async fn xs_06_a_root_path_leaf_is_refused_in_the_handshake_in_both_roles() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue(""));
    for outcome in [meet(&server, &client).await.0, meet(&client, &server).await.1] {
        let fault = format!("{:?}", outcome.unwrap_err());
        assert!(fault.contains("RootPath"), "{fault}");
    }
}

#[tokio::test]
async fn xs_08_a_ca_certificate_is_no_peer() {
    let authority = Authority::new("example.org");
    let mut own_root = authority.issue("/client");
    own_root.chain = authority.root.clone();
    let (server, client) = pair(&authority, &own_root);
    let fault = format!("{:?}", meet(&server, &client).await.0.unwrap_err());
    assert!(fault.contains("InvalidCertificate"), "{fault}");
}

#[tokio::test]
async fn a_genuine_peer_that_is_not_welcome_is_refused() {
    let authority = Authority::new("example.org");
    let id = |path: &str| SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap();
    let class = Allow::class(&authority.domain, "a").unwrap();
    let rules = [
        (Allow::id(&id("/x")), "/x", "/y"),
        (Allow::ids([id("/x"), id("/z")]), "/z", "/y"),
        (class, "/agent/a/1", "/agent/a/b/1"),
        (Allow::custom(|peer| peer.id.path() == "/x"), "/x", "/y"),
        (td(&authority), "/x", ""),
    ];
    for (allow, welcome, stranger) in rules {
        let server = End::new(&authority.issue("/server"), &authority, allow);
        for (path, expected) in [(welcome, true), (stranger, false)] {
            let client = End::new(&authority.issue(path), &authority, td(&authority));
            assert_eq!(meet(&server, &client).await.0.is_ok(), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn nobody_is_welcome_in_an_empty_list() {
    let authority = Authority::new("example.org");
    let server = End::new(&authority.issue("/server"), &authority, Allow::ids([]));
    let client = End::new(&authority.issue("/client"), &authority, td(&authority));
    assert!(meet(&server, &client).await.0.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_unless_the_server_says_otherwise() {
    let authority = Authority::new("example.org");
    let (mut server, client) = pair(&authority, &authority.issue("/client"));
    client.current.clear();
    assert!(meet(&server, &client).await.0.is_err());

    let optional = PeerVerifier::new(tls::provider(), server.bundles.clone(), td(&authority), system_clock())
        .with_clients(ClientCertificate::Optional);
    server.verifier = Arc::new(optional);
    let config = tls::server_config(server.verifier.clone(), server.current.clone(), &[H2]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (near, far) = duplex(1 << 16);
    let connector = client.connector();
    let (at_server, _at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
    let at_server = at_server.unwrap();
    assert!(at_server.get_ref().1.peer_certificates().is_none());
}

#[tokio::test]
async fn the_name_that_is_dialled_is_not_sent() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let config = tls::server_config(server.verifier.clone(), server.current.clone(), &[H2]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (near, far) = duplex(1 << 16);
    let connector = client.connector();
    let (at_server, _at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
    assert_eq!(at_server.unwrap().get_ref().1.server_name(), None);
}

#[tokio::test]
async fn a_server_without_an_identity_fails_the_handshake() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    server.current.clear();
    let (at_server, at_client) = meet(&server, &client).await;
    assert!(at_server.is_err() && at_client.is_err());
}

#[tokio::test]
async fn an_svid_of_ours_that_ended_is_not_presented() {
    let authority = Authority::new("example.org");
    let current = CurrentSvid::empty(tls::provider(), system_clock());
    current.set(&authority.issue_between("/server", -60, -1).svid()).unwrap();
    assert!(current.certified().is_none());
    current.set(&authority.issue("/server").svid()).unwrap();
    assert!(current.certified().is_some());
}

#[tokio::test]
async fn a_client_that_offers_no_application_protocol_is_refused() {
    let authority = Authority::new("example.org");
    let (server, client) = pair(&authority, &authority.issue("/client"));
    let offers: [&[&[u8]]; 2] = [&[], &[HTTP1]];
    for alpn in offers {
        let connector = Connector::new(client.verifier.clone(), client.current.clone(), alpn).unwrap();
        let (near, far) = duplex(1 << 16);
        let acceptor = server.acceptor();
        let (at_server, _) = tokio::join!(acceptor.accept(near), connector.connect(far));
        assert!(at_server.is_err(), "{alpn:?}");
    }
}

#[tokio::test]
async fn an_application_may_bring_its_own_provider() {
    let authority = Authority::new("example.org");
    let (server, mut client) = pair(&authority, &authority.issue("/client"));
    let mut own = rustls::crypto::aws_lc_rs::default_provider();
    own.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let verifier = PeerVerifier::new(Arc::new(own), client.bundles.clone(), td(&authority), system_clock());
    client.verifier = Arc::new(verifier);
    let (_, at_client) = meet(&server, &client).await;
    let group = at_client.unwrap().get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_cut_off_by_the_handshake_deadline() {
    let authority = Authority::new("example.org");
    let (server, _) = pair(&authority, &authority.issue("/client"));
    let (near, _far) = duplex(1 << 16);
    let fault = server.acceptor().accept(near).await.unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::TimedOut);
}

/// Two ends on tokio's clock; the client's certificate ends after `secs`.
fn short_lived(authority: &Authority, secs: i64) -> (End, End) {
    let clock = tokio_clock();
    let client = authority.issue_between("/client", -10, secs);
    let server = End::with_clock(&authority.issue("/server"), authority, td(authority), clock.clone());
    (server, End::with_clock(&client, authority, td(authority), clock))
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_cut_when_the_peers_certificate_ends() {
    let authority = Authority::new("example.org");
    let (server, client) = short_lived(&authority, 100);
    let (at_server, _at_client) = meet(&server, &client).await;
    let (mut at_server, begun) = (at_server.unwrap(), Instant::now());
    let fault = at_server.read_u8().await.unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::TimedOut);
    let lasted = begun.elapsed();
    assert!((99..=102).contains(&lasted.as_secs()), "cut after {lasted:?}");
    assert_eq!(at_server.write_all(b"x").await.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn reader_and_writer_in_two_tasks_are_both_cut() {
    let authority = Authority::new("example.org");
    let (server, client) = short_lived(&authority, 100);
    let (at_server, _at_client) = meet(&server, &client).await;
    let (mut reader, mut writer) = tokio::io::split(at_server.unwrap());
    let reads = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
    let writes = tokio::spawn(async move {
        loop {
            // Blocks once the pipe is full, since nobody reads at the other end.
            if let Err(fault) = writer.write_all(&[0; 4096]).await {
                return fault.kind();
            }
        }
    });
    assert_eq!((reads.await.unwrap(), writes.await.unwrap()), (ErrorKind::TimedOut, ErrorKind::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_cut_soon_after_its_authority_left_the_bundle() {
    let authority = Authority::new("example.org");
    let (server, client) = short_lived(&authority, 3000);
    let (at_server, _at_client) = meet(&server, &client).await;
    let (mut at_server, begun) = (at_server.unwrap(), Instant::now());
    server.bundles.store(Arc::new(Authority::new("example.org").bundle().into()));
    assert_eq!(at_server.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(begun.elapsed() <= RECHECK + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_does_not_extend_a_connection() {
    let authority = Authority::new("example.org");
    let step = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let (tokio, stepped) = (tokio_clock(), step.clone());
    let clock: Clock = Arc::new(move || tokio().plus(stepped.load(std::sync::atomic::Ordering::Relaxed)));
    let server = End::with_clock(&authority.issue("/server"), &authority, td(&authority), clock.clone());
    let client = End::with_clock(&authority.issue_between("/client", -10, 3000), &authority, td(&authority), clock);
    let (at_server, _at_client) = meet(&server, &client).await;
    let (mut at_server, begun) = (at_server.unwrap(), Instant::now());
    step.store(3001, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(at_server.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() <= RECHECK + Duration::from_secs(1));
}

/// The row that names the certificate of this chain.
fn row_of(issued: &Issued, id: &str) -> Revocation {
    let authority = x509::authority_key_id(&issued.chain).map(|id| id.iter().map(|b| format!("{b:02x}")).collect());
    let serial = x509::serial_decimal(&issued.chain).unwrap();
    let scope = Scope::Certificate { authority: authority.unwrap(), serial };
    Revocation { id: id.into(), scope, expires_at: support::now().plus(600) }
}

/// The same end, refusing what is on `list`.
fn with_list(end: End, trusts: &Authority, list: &LiveRevocations) -> End {
    let verifier = PeerVerifier::new(tls::provider(), end.bundles.clone(), td(trusts), system_clock());
    End { verifier: Arc::new(verifier.with_revocations(list.clone())), ..end }
}

#[tokio::test]
async fn a_revoked_peer_is_refused_in_the_handshake_in_both_roles() {
    let authority = Authority::new("example.org");
    let (bad, good) = (authority.issue("/bad"), authority.issue("/good"));
    for scope in ["certificate", "id"] {
        let list = LiveRevocations::new();
        let (server, client) = pair(&authority, &bad);
        let server = with_list(server, &authority, &list);
        assert!(meet(&server, &client).await.0.is_ok(), "{scope}: not yet");
        let row = row_of(&bad, "spiffe://example.org/bad");
        let row = if scope == "id" { Revocation { scope: Scope::All, ..row } } else { row };
        assert_eq!(list.add(vec![row], support::now()).len(), 1);
        let refused = meet(&server, &client).await.0.unwrap_err();
        assert!(refused.to_string().contains("Revoked"), "{refused}");
        let (server, client) = pair(&authority, &good);
        let server = with_list(server, &authority, &list);
        assert!(meet(&server, &client).await.0.is_ok(), "{scope}: another peer");
        // The other way round: the server is the revoked one.
        let (at_bad, at_good) =
            (End::new(&bad, &authority, td(&authority)), End::new(&good, &authority, td(&authority)));
        let refused = meet(&at_bad, &with_list(at_good, &authority, &list)).await.1.unwrap_err();
        assert!(refused.to_string().contains("Revoked"), "{refused}");
    }
}

/// Both sides of the stream wait when the word comes, in tasks of their own.
#[tokio::test(start_paused = true)]
async fn a_live_connection_of_a_revoked_peer_is_closed_at_once_and_no_other() {
    let authority = Authority::new("example.org");
    let (bad, good) = (authority.issue("/bad"), authority.issue("/good"));
    let list = LiveRevocations::new();
    let mut live = Vec::new();
    for issued in [&bad, &good] {
        let (server, client) = pair(&authority, issued);
        let server = with_list(server, &authority, &list);
        let (at_server, at_client) = meet(&server, &client).await;
        live.push((at_server.unwrap(), at_client.unwrap()));
    }
    let (mut other, _keeps_other) = live.pop().unwrap();
    let (hit, _keeps) = live.pop().unwrap();
    let (mut reads, mut writes) = tokio::io::split(hit);
    let reader = tokio::spawn(async move { reads.read_u8().await.unwrap_err().kind() });
    let writer = tokio::spawn(async move {
        // The pipe is full after a while, and then it waits.
        loop {
            if let Err(fault) = writes.write_all(&[0; 4096]).await {
                return fault.kind();
            }
        }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    list.add(vec![row_of(&bad, "spiffe://example.org/bad")], support::now());
    assert_eq!(reader.await.unwrap(), ErrorKind::ConnectionAborted);
    assert_eq!(writer.await.unwrap(), ErrorKind::ConnectionAborted);
    assert_eq!(start.elapsed(), Duration::ZERO, "no timer was waited for");
    let waits = tokio::time::timeout(Duration::from_secs(5), other.read_u8()).await;
    assert!(waits.is_err(), "the other connection lives: {waits:?}");
}

#[tokio::test]
async fn a_peer_that_is_revoked_during_the_handshake_is_closed_at_the_first_use() {
    let authority = Authority::new("example.org");
    let bad = authority.issue("/bad");
    let list = LiveRevocations::new();
    let (server, client) = pair(&authority, &bad);
    let server = with_list(server, &authority, &list);
    let (at_server, _at_client) = meet(&server, &client).await;
    let mut at_server = at_server.unwrap();
    // Nobody has polled the connection since.
    list.add(vec![row_of(&bad, "spiffe://example.org/bad")], support::now());
    assert_eq!(at_server.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

fn held(id: &str, secs: Option<i64>) -> Vec<Hold> {
    vec![Hold { id: id.into(), until: secs.map(|secs| support::now().plus(secs)) }]
}

#[tokio::test]
async fn a_live_connection_of_a_held_peer_is_closed_at_once_and_a_new_one_is_refused_until_the_release() {
    let authority = Authority::new("example.org");
    let bad = authority.issue("/bad");
    let list = LiveRevocations::new();
    let (server, client) = pair(&authority, &bad);
    let server = with_list(server, &authority, &list);
    let (at_server, _at_client) = meet(&server, &client).await;
    let mut at_server = at_server.unwrap();
    let reader = tokio::spawn(async move { at_server.read_u8().await.unwrap_err().kind() });
    assert!(list.hold(held("spiffe://example.org/bad", Some(600)), support::now()));
    assert_eq!(reader.await.unwrap(), ErrorKind::ConnectionAborted);
    let refused = meet(&server, &client).await.0.unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
    assert!(list.hold(held("spiffe://example.org/bad", None), support::now()));
    assert!(meet(&server, &client).await.0.is_ok(), "released");
}

/// The verifier's own clock says when it is over.
#[tokio::test]
async fn a_hold_is_over_at_its_end_though_nobody_says_so() {
    let authority = Authority::new("example.org");
    let bad = authority.issue("/bad");
    let list = LiveRevocations::new();
    let end = support::now().plus(60);
    list.hold(vec![Hold { id: "spiffe://example.org/bad".into(), until: Some(end) }], support::now());
    let (server, client) = pair(&authority, &bad);
    let at = |now: UnixTime| {
        let clock: Clock = Arc::new(move || now);
        let verifier = PeerVerifier::new(tls::provider(), server.bundles.clone(), td(&authority), clock);
        let verifier = verifier.with_revocations(list.clone());
        End { verifier: Arc::new(verifier), ..End::new(&bad, &authority, td(&authority)) }
    };
    assert!(meet(&at(end.plus(-1)), &client).await.0.is_err());
    assert!(meet(&at(end), &client).await.0.is_ok());
}
