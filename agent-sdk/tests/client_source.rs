//! The source: one wait, then always current, on a current-thread runtime.
#![cfg(feature = "client")]

mod support;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chancery_proto::{
    chancery::agent::v1 as agent,
    workload::{JwtBundlesResponse, Jwtsvid, JwtsvidResponse, ValidateJwtsvidResponse, X509svid, X509svidResponse},
};
use chancery_sdk::{
    Source,
    peer::{GuardedStream, PeerIdentity, connection_lost},
    source::SourceError,
    tls::{Allow, Clock, H2},
    workload::{ClientError, Event},
};
use support::{
    api::{Fake, Says},
    now,
    pki::Authority,
    token::JwtAuthority,
};
use tokio::io::{DuplexStream, duplex};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn grant(fake: &Fake, svids: Vec<X509svid>) {
    let message = X509svidResponse { svids, crl: Vec::new(), federated_bundles: HashMap::new() };
    fake.x509.send_replace(Says::Message(message));
}

/// A fake that grants `/w`, and a source on it.
async fn granted(authority: &Authority) -> (Fake, Source) {
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    let source = fake.source().await;
    (fake, source)
}

/// Waits until the source has taken up what `act` caused.
async fn after_change(source: &Source, act: impl FnOnce()) {
    let mut changed = source.changed();
    changed.mark_unchanged();
    act();
    changed.changed().await.unwrap();
}

/// One mutual handshake of the source with itself.
async fn meet(source: &Source, authority: &Authority) -> io::Result<GuardedStream<DuplexStream>> {
    let allow = || Allow::trust_domain(&authority.domain);
    let acceptor = source.acceptor(allow(), &[H2]).unwrap();
    let connector = source.connector(allow(), &[H2]).unwrap();
    let (near, far) = duplex(1 << 16);
    let (at_server, at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
    at_client?;
    at_server
}

#[tokio::test]
async fn a_source_waits_for_the_first_identity_only() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    let (source, ()) = tokio::join!(fake.source(), async {
        fake.called(1).await; // denied once
        grant(&fake, vec![authority.message("/w", "")]);
    });
    assert_eq!(source.svid().unwrap().id().as_str(), "spiffe://example.org/w");
    assert_eq!(source.bundles().get(&authority.domain), Some(&authority.bundle()));
    meet(&source, &authority).await.unwrap();
}

#[tokio::test]
async fn connecting_gives_up_after_the_callers_time_and_says_why() {
    let fake = Fake::start();
    let begin = Source::builder().endpoint(fake.endpoint()).wait(Duration::from_millis(300));
    match begin.connect().await {
        Err(SourceError::Timeout { why, .. }) => assert_eq!(why, "no identity issued"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_socket_is_named_as_the_reason() {
    let fake = Fake::start();
    fake.kill();
    match Source::builder().endpoint(fake.endpoint()).wait(Duration::from_millis(300)).connect().await {
        Err(SourceError::Timeout { why, .. }) => assert!(why.contains("No such file"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dumps_are_forbidden_only_when_asked_for() {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    let authority = Authority::new("example.org");
    let (fake, _source) = granted(&authority).await;
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    Source::builder().endpoint(fake.endpoint()).forbid_dumps().connect().await.unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
}

#[tokio::test]
async fn connecting_does_not_wait_after_a_final_answer() {
    for code in [Code::InvalidArgument, Code::Unimplemented] {
        let fake = Fake::start();
        fake.x509.send_replace(Says::Fail(Status::new(code, "never")));
        match Source::builder().endpoint(fake.endpoint()).wait(Duration::MAX).connect().await {
            Err(SourceError::NoIdentity { why }) => assert!(why.contains("never")),
            other => panic!("{other:?}"),
        }
        assert_eq!(fake.calls.borrow().len(), 1);
    }
}

#[tokio::test]
async fn rotation_is_followed_by_configurations_made_before() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let acceptor = source.acceptor(Allow::trust_domain(&authority.domain), &[H2]).unwrap();
    let connector = source.connector(Allow::trust_domain(&authority.domain), &[H2]).unwrap();
    let serial = async || {
        let (near, far) = duplex(1 << 16);
        let (at_server, _at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
        at_server.unwrap().peer().serial_decimal().to_owned()
    };
    let before = serial().await;
    let next = authority.issue("/w");
    let expected = next.svid().serial_decimal().to_owned();
    after_change(&source, || grant(&fake, vec![authority.wrap(next, "")])).await;
    let after = serial().await;
    assert_ne!(before, after);
    assert_eq!(after, expected);
    assert_eq!(source.svid().unwrap().serial_decimal(), expected);
}

#[tokio::test]
async fn a_rotated_root_is_followed_by_configurations_made_before() {
    let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
    let (fake, source) = granted(&old).await;
    let acceptor = source.acceptor(Allow::trust_domain(&old.domain), &[H2]).unwrap();
    after_change(&source, || grant(&fake, vec![new.message("/w", "")])).await;
    let connector = source.connector(Allow::trust_domain(&old.domain), &[H2]).unwrap();
    let (near, far) = duplex(1 << 16);
    let (at_server, at_client) = tokio::join!(acceptor.accept(near), connector.connect(far));
    assert!(at_server.is_ok() && at_client.is_ok());
}

#[tokio::test]
async fn a_configuration_keeps_the_source_following_and_the_last_one_ends_it() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let config = source.server_tls(Allow::trust_domain(&authority.domain), &[H2]).unwrap();
    let mut changed = source.changed();
    drop(source);
    changed.mark_unchanged();
    grant(&fake, vec![authority.message("/w", "")]);
    changed.changed().await.unwrap();
    drop(config);
    assert!(changed.changed().await.is_err(), "the task goes on without anybody to serve");
}

#[tokio::test]
async fn wa_36_denial_redacts_and_new_handshakes_fail() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    meet(&source, &authority).await.unwrap();
    let denial = || drop(fake.x509.send_replace(Says::Fail(Status::permission_denied("entry deleted"))));
    after_change(&source, denial).await;
    assert!(matches!(source.svid(), Err(SourceError::NoIdentity { why }) if why == "entry deleted"));
    assert!(matches!(source.svid_by_hint("h"), Err(SourceError::NoIdentity { .. })));
    assert!(source.svids().is_empty() && source.bundles().is_empty());
    assert!(meet(&source, &authority).await.is_err());
}

#[tokio::test]
async fn we_28_an_identity_that_was_lost_comes_back_without_a_restart() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let denial = || drop(fake.x509.send_replace(Says::Fail(Status::permission_denied("entry deleted"))));
    after_change(&source, denial).await;
    after_change(&source, || grant(&fake, vec![authority.message("/w", "")])).await;
    meet(&source, &authority).await.unwrap();
}

#[tokio::test]
async fn wa_37_state_is_kept_while_the_agent_is_away_and_followed_when_it_is_back() {
    let authority = Authority::new("example.org");
    let (mut fake, source) = granted(&authority).await;
    let before = source.svid().unwrap();
    fake.kill();
    // The next call finds the socket gone, so the loss has been noticed.
    assert!(source.jwt("db").await.is_err());
    assert_eq!(source.svid().unwrap().serial_decimal(), before.serial_decimal());
    meet(&source, &authority).await.unwrap();
    grant(&fake, vec![authority.message("/w", "")]);
    let mut changed = source.changed();
    fake.restart();
    changed.changed().await.unwrap();
    assert_ne!(source.svid().unwrap().serial_decimal(), before.serial_decimal());
}

#[tokio::test]
async fn wa_37_unavailable_does_not_redact() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    fake.x509.send_replace(Says::Fail(Status::unavailable("restarting")));
    fake.called(2).await; // the retry has been refused as well
    source.svid().unwrap();
    meet(&source, &authority).await.unwrap();
}

#[tokio::test]
async fn an_svid_that_was_not_renewed_ends_here_too() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    let time = Arc::new(AtomicI64::new(now().0));
    let read = time.clone();
    let clock: Clock = Arc::new(move || chancery_sdk::time::UnixTime(read.load(Ordering::Relaxed)));
    let source = Source::builder().endpoint(fake.endpoint()).clock(clock).connect().await.unwrap();
    meet(&source, &authority).await.unwrap();
    let end = source.svid().unwrap().not_after();
    time.store(end.0, Ordering::Relaxed);
    source.svid().unwrap();
    time.store(end.0 + 1, Ordering::Relaxed);
    assert!(matches!(source.svid(), Err(SourceError::Expired { not_after, .. }) if not_after == end));
    assert!(meet(&source, &authority).await.is_err());
}

#[tokio::test]
async fn wa_17_a_bad_message_leaves_the_last_good_state() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let before = source.svid().unwrap();
    let bad = X509svid { x509_svid_key: Vec::new(), ..authority.message("/w", "") };
    grant(&fake, vec![bad]);
    // A stream of our own shows that the bad message has been sent to everybody.
    let mut watch = source.client().watch_x509();
    assert!(matches!(watch.next().await, Some(Event::Discarded(_))));
    let mut changed = source.changed();
    changed.mark_unchanged();
    assert_eq!(source.svid().unwrap().serial_decimal(), before.serial_decimal());
    grant(&fake, vec![authority.message("/w", "")]);
    changed.changed().await.unwrap();
    assert_ne!(source.svid().unwrap().serial_decimal(), before.serial_decimal());
}

#[tokio::test]
async fn wa_70_wa_73_the_default_is_the_first_and_hints_may_be_absent() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/first", "internal"), authority.message("/second", "external")]);
    let source = fake.source().await;
    assert_eq!(source.svid().unwrap().id().path(), "/first");
    assert_eq!(source.svid_by_hint("external").unwrap().unwrap().id().path(), "/second");
    assert!(source.svid_by_hint("unheard-of").unwrap().is_none());
    assert!(source.svid_by_hint("").unwrap().is_none());
    assert_eq!(source.svids().len(), 2);
}

#[tokio::test]
async fn a_jwt_of_the_default_identity_is_fetched() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let jwts = JwtAuthority::new("example.org");
    let svid = |path: &str| Jwtsvid {
        spiffe_id: format!("spiffe://example.org{path}"),
        svid: jwts.token(path, "db"),
        hint: String::new(),
    };
    fake.jwt.send_replace(Says::Message(JwtsvidResponse { svids: vec![svid("/w"), svid("/v")] }));
    assert_eq!(source.jwt("db").await.unwrap().id().path(), "/w");
}

#[tokio::test]
async fn wa_58_validation_is_remote_by_default() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let token = JwtAuthority::new("example.org").token("/w", "db");
    fake.validated.send_replace(Says::Fail(Status::invalid_argument("token has expired")));
    match source.validate_jwt("db", &token).await {
        Err(SourceError::Client(ClientError::Status(status))) => assert_eq!(status.code(), Code::InvalidArgument),
        other => panic!("{other:?}"),
    }
    let spiffe_id = "spiffe://example.org/w".to_owned();
    let claims = Some(prost_types::Struct::default());
    fake.validated.send_replace(Says::Message(ValidateJwtsvidResponse { spiffe_id, claims }));
    assert_eq!(source.validate_jwt("db", &token).await.unwrap().id.path(), "/w");
    assert!(matches!(source.validate_jwt_locally("db", &token), Err(SourceError::NoJwtBundles)));
}

#[tokio::test]
async fn wa_59_js_30_js_31_wa_51_local_validation_uses_the_bundle_of_the_subjects_domain() {
    let authority = Authority::new("example.org");
    let (ours, theirs) = (JwtAuthority::new("example.org"), JwtAuthority::new("other.test"));
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    let say = |bundles| drop(fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles })));
    say(HashMap::from([ours.entry(), theirs.entry()]));
    let source = Source::builder().endpoint(fake.endpoint()).with_jwt_bundles().connect().await.unwrap();
    assert_eq!(source.jwt_bundles().unwrap().len(), 2, "connecting waits for them");
    let (our_token, their_token) = (ours.token("/w", "db"), theirs.token("/x", "db"));
    assert_eq!(source.validate_jwt_locally("db", &our_token).unwrap().id.path(), "/w");
    assert_eq!(source.validate_jwt_locally("db", &their_token).unwrap().id.trust_domain_name(), "other.test");
    assert!(source.validate_jwt_locally("web", &our_token).is_err(), "another audience");
    let forged = JwtAuthority::new("example.org").token("/w", "db");
    assert!(source.validate_jwt_locally("db", &forged).is_err(), "another key");
    after_change(&source, || say(HashMap::from([ours.entry()]))).await;
    assert!(source.validate_jwt_locally("db", &their_token).is_err(), "a redacted domain");
    let denial = || drop(fake.jwt_bundles.send_replace(Says::Fail(Status::permission_denied("no"))));
    after_change(&source, denial).await;
    assert!(source.validate_jwt_locally("db", &our_token).is_err(), "redacted altogether");
}

#[tokio::test]
async fn wa_03_a_missing_jwt_profile_leaves_the_x509_profile_alone() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    fake.jwt_bundles.send_replace(Says::Fail(Status::unimplemented("disabled")));
    let source = Source::builder().endpoint(fake.endpoint()).with_jwt_bundles().connect().await.unwrap();
    fake.called(2).await;
    after_change(&source, || grant(&fake, vec![authority.message("/w", "")])).await;
    assert_eq!(fake.calls.borrow().len(), 2, "one attempt for each stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_serves_on_a_multi_thread_runtime_too() {
    let authority = Authority::new("example.org");
    let (_fake, source) = granted(&authority).await;
    meet(&source, &authority).await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_holds_up_nobody() {
    let authority = Authority::new("example.org");
    let (_fake, source) = granted(&authority).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let allow = || Allow::trust_domain(&authority.domain);
    let mut incoming = source.acceptor(allow(), &[H2]).unwrap().incoming(listener);
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = source.connector(allow(), &[H2]).unwrap();
    let uri: http::Uri = format!("https://{address}").parse().unwrap();
    let (accepted, dialled) = tokio::join!(incoming.accept(), connector.dial(&uri));
    assert_eq!(accepted.unwrap().peer().id(), dialled.unwrap().peer().id());
}

/// Serves gRPC health to the trust domain; returns where.
async fn serve_health(source: &Source, allow: Allow) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("https://{}", listener.local_addr().unwrap());
    let incoming = source.acceptor(allow, &[H2]).unwrap().incoming(listener);
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    target
}

#[tokio::test]
async fn a_live_call_ends_with_the_callers_certificate_and_the_next_one_uses_the_new() {
    let authority = Authority::new("example.org");
    let allow = || Allow::trust_domain(&authority.domain);
    let (_server_fake, server) = granted(&authority).await;
    let client_fake = Fake::start();
    grant(&client_fake, vec![authority.wrap(authority.issue_between("/client", -10, 2), "")]);
    let client = client_fake.source().await;
    let target = serve_health(&server, allow()).await;
    let mut health = HealthClient::new(client.channel(&target, allow()).unwrap());
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    after_change(&client, || grant(&client_fake, vec![authority.message("/client", "")])).await;
    // Nothing is said on this stream until the server cuts it, 2 to 4 s from now.
    let end = watched.message().await.unwrap_err();
    assert!(connection_lost(&end), "{end:?}");
    let mut answer = health.check(HealthCheckRequest::default()).await;
    if answer.as_ref().is_err_and(connection_lost) {
        answer = health.check(HealthCheckRequest::default()).await;
    }
    answer.unwrap();
}

#[tokio::test]
async fn a_refusal_by_the_server_shows_as_a_lost_connection_at_the_first_call() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    let (_server_fake, server) = granted(&ours).await;
    let client_fake = Fake::start();
    let svids = vec![theirs.message("/client", "")];
    let federated_bundles = HashMap::from([(ours.domain.id().to_string(), ours.root.clone())]);
    client_fake.x509.send_replace(Says::Message(X509svidResponse { svids, crl: Vec::new(), federated_bundles }));
    let client = client_fake.source().await;
    let target = serve_health(&server, Allow::trust_domain(&ours.domain)).await;
    let mut health = HealthClient::new(client.channel(&target, Allow::trust_domain(&ours.domain)).unwrap());
    let fault = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert!(connection_lost(&fault), "{fault:?}");
}

/// The path of the peer, as an axum handler sees it.
async fn whoami(peer: axum::Extension<PeerIdentity>) -> String {
    peer.id().path().to_owned()
}

#[tokio::test]
async fn an_axum_handler_knows_its_peer_and_serving_ends_on_stop() {
    let authority = Authority::new("example.org");
    let (_fake, source) = granted(&authority).await;
    let allow = || Allow::trust_domain(&authority.domain);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: http::Uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let incoming = source.acceptor(allow(), &[H2]).unwrap().incoming(listener);
    let stop = tokio_util::sync::CancellationToken::new();
    let app = axum::Router::new().route("/", axum::routing::get(whoami));
    let served = tokio::spawn(chancery_sdk::peer::serve(incoming, app, stop.clone()));

    let stream = source.connector(allow(), &[H2]).unwrap().dial(&uri).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(uri).body(axum::body::Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 64).await.unwrap();
    assert_eq!(&body[..], b"/w");
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn a_listener_yields_verified_peers_and_a_new_connection_shows_the_new_certificate() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    let allow = || Allow::trust_domain(&authority.domain);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = source.acceptor(allow(), &[H2]).unwrap().incoming(listener);
    let uri: http::Uri = format!("https://{address}").parse().unwrap();
    let connector = source.connector(allow(), &[H2]).unwrap();
    let (first, _) = tokio::join!(incoming.accept(), connector.dial(&uri));
    after_change(&source, || grant(&fake, vec![authority.message("/w", "")])).await;
    let (second, _) = tokio::join!(incoming.accept(), connector.dial(&uri));
    assert_ne!(first.unwrap().peer().serial_decimal(), second.unwrap().peer().serial_decimal());
}

fn told(rows: Vec<agent::Revocation>, more: bool) -> Says<agent::WatchRevocationsResponse> {
    Says::Message(agent::WatchRevocationsResponse { revocations: rows, more, ..Default::default() })
}

fn row(id: &str, scope: agent::Scope) -> agent::Revocation {
    let (issued_until, expires_at) = (now().plus(60).0, now().plus(600).0);
    agent::Revocation { scope: scope.into(), spiffe_id: id.into(), issued_until, expires_at, ..Default::default() }
}

async fn hears(source: &Source, wanted: bool) {
    let within = async {
        while source.hears_revocations() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), within).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_without_revocations_is_gone_on_with_and_the_source_says_so() {
    let authority = Authority::new("example.org");
    let (fake, source) = granted(&authority).await;
    meet(&source, &authority).await.unwrap();
    assert!(!source.hears_revocations() && source.revocations().list().is_empty());
    // A final answer: it is not asked again.
    fake.revocations.send_replace(told(vec![row("spiffe://example.org/w", agent::Scope::All)], false));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!source.hears_revocations());
    meet(&source, &authority).await.unwrap();
}

#[tokio::test]
async fn revocations_are_followed_and_what_was_told_stays_whatever_the_endpoint_says_later() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    fake.revocations.send_replace(told(vec![row("spiffe://example.org/x", agent::Scope::All)], true));
    let source = fake.source().await;
    let connection = meet(&source, &authority).await.unwrap();
    assert!(!source.hears_revocations(), "the list is not whole yet");
    fake.revocations.send_replace(told(Vec::new(), false));
    hears(&source, true).await;
    let unknown = agent::Revocation { scope: 77, ..row("spiffe://example.org/y", agent::Scope::All) };
    let rows = vec![unknown, row("spiffe://example.org/w", agent::Scope::All)];
    after_change(&source, || drop(fake.revocations.send_replace(told(rows, false)))).await;
    assert_eq!(source.revocations().list().rows().len(), 2, "a row that makes no sense holds up no other");
    let refused = meet(&source, &authority).await.unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
    drop(connection);
    for status in [Status::unavailable("away"), Status::permission_denied("no"), Status::unimplemented("never")] {
        fake.revocations.send_replace(Says::Fail(status));
        hears(&source, false).await;
        assert!(meet(&source, &authority).await.is_err(), "nothing is taken back");
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_without_a_call() {
    let authority = JwtAuthority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![Authority::new("example.org").message("/w", "")]);
    let bundles = HashMap::from([authority.entry()]);
    fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
    fake.revocations.send_replace(told(Vec::new(), false));
    let builder = Source::builder().endpoint(fake.endpoint()).with_jwt_bundles();
    let source = builder.wait(Duration::from_secs(20)).connect().await.unwrap();
    let (hit, other) = (authority.token("/hit", "us"), authority.token("/other", "us"));
    source.validate_jwt_locally("us", &hit).unwrap();
    let rows = vec![row("spiffe://example.org/hit", agent::Scope::Tokens)];
    after_change(&source, || drop(fake.revocations.send_replace(told(rows, false)))).await;
    let refused = source.validate_jwt_locally("us", &hit).unwrap_err();
    assert!(matches!(&refused, SourceError::Revoked { id } if id.path() == "/hit"), "{refused}");
    source.validate_jwt_locally("us", &other).unwrap();
}

fn hold(id: &str, secs: Option<i64>) -> agent::Hold {
    agent::Hold { spiffe_id: id.into(), until: secs.map_or(0, |secs| now().plus(secs).0) }
}

fn told_holds(holds: Vec<agent::Hold>, holds_begin: bool, more: bool) -> Says<agent::WatchRevocationsResponse> {
    Says::Message(agent::WatchRevocationsResponse { holds, holds_begin, more, ..Default::default() })
}

const US: &str = "spiffe://example.org/w";

#[tokio::test]
async fn a_held_peer_is_refused_until_it_is_released_or_a_new_list_lacks_it() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![authority.message("/w", "")]);
    fake.revocations.send_replace(told_holds(Vec::new(), true, false));
    let source = fake.source().await;
    hears(&source, true).await;
    meet(&source, &authority).await.unwrap();
    let tell = async |message| after_change(&source, || drop(fake.revocations.send_replace(message))).await;
    tell(told_holds(vec![hold(US, Some(600))], false, false)).await;
    let refused = meet(&source, &authority).await.unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
    tell(told_holds(vec![hold(US, None)], false, false)).await;
    meet(&source, &authority).await.unwrap();

    // A stream that begins again tells everybody who is held; what it lacks is over, once it has told all.
    tell(told_holds(vec![hold(US, Some(600))], false, false)).await;
    tell(told_holds(vec![hold("spiffe://example.org/x", Some(600))], true, true)).await;
    assert!(meet(&source, &authority).await.is_err(), "the list is not whole yet");
    tell(told_holds(vec![hold("spiffe://example.org/y", Some(600))], false, false)).await;
    meet(&source, &authority).await.unwrap();
    let list = source.revocations().list();
    let held: Vec<_> = list.every_hold().keys().map(String::as_str).collect();
    assert_eq!(held, ["spiffe://example.org/x", "spiffe://example.org/y"]);

    // One that breaks changes nothing: the holds end by themselves.
    fake.revocations.send_replace(Says::Fail(Status::unavailable("away")));
    hears(&source, false).await;
    assert!(source.revocations().list().held("spiffe://example.org/x", now()).is_some());
}

#[tokio::test]
async fn a_token_of_a_held_instance_is_refused_without_a_call_and_accepted_after_the_release() {
    let authority = JwtAuthority::new("example.org");
    let fake = Fake::start();
    grant(&fake, vec![Authority::new("example.org").message("/w", "")]);
    let bundles = HashMap::from([authority.entry()]);
    fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
    fake.revocations.send_replace(told_holds(Vec::new(), true, false));
    let builder = Source::builder().endpoint(fake.endpoint()).with_jwt_bundles();
    let source = builder.wait(Duration::from_secs(20)).connect().await.unwrap();
    let (hit, other) = (authority.token("/hit", "us"), authority.token("/other", "us"));
    hears(&source, true).await;
    let held = vec![hold("spiffe://example.org/hit", Some(600))];
    after_change(&source, || drop(fake.revocations.send_replace(told_holds(held, false, false)))).await;
    let refused = source.validate_jwt_locally("us", &hit).unwrap_err();
    assert!(matches!(&refused, SourceError::Held { id, .. } if id.path() == "/hit"), "{refused}");
    source.validate_jwt_locally("us", &other).unwrap();
    let released = vec![hold("spiffe://example.org/hit", None)];
    after_change(&source, || drop(fake.revocations.send_replace(told_holds(released, false, false)))).await;
    source.validate_jwt_locally("us", &hit).unwrap();
}
