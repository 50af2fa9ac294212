//! The Workload API client against a server that may say anything.
//!
//! Time is paused: the only timers are the client's own delays.
#![cfg(feature = "client")]

mod support;

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_proto::workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidResponse, ValidateJwtsvidResponse, X509BundlesResponse, X509svid,
    X509svidResponse,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    workload::{ClientError, Endpoint, Event, UpdateError, WorkloadClient, X509Context},
};
use prost_types::{Struct, Value, value::Kind};
use support::{
    api::{Fake, Says},
    pki::Authority,
};
use tonic::{Code, Status};

const OTHER: &str = "spiffe://other.test";

fn message(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse { svids, crl: Vec::new(), federated_bundles: HashMap::new() }
}

fn federated(mut message: X509svidResponse, key: &str, der: &[u8]) -> X509svidResponse {
    message.federated_bundles.insert(key.to_owned(), der.to_vec());
    message
}

fn says(fake: &Fake, message: X509svidResponse) {
    fake.x509.send_replace(Says::Message(message));
}

/// What the client makes of one message.
async fn read(message: X509svidResponse) -> Result<X509Context, UpdateError> {
    let fake = Fake::start();
    says(&fake, message);
    match fake.client().fetch_x509().await {
        Ok(context) => Ok(context),
        Err(ClientError::Answer(fault)) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

fn token(sub: &str) -> String {
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = part(serde_json::json!({"alg": "ES256", "kid": "k"}));
    let claims = part(serde_json::json!({"sub": sub, "aud": ["db"], "exp": support::now().0 + 300}));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([0u8; 64]))
}

fn jwt(sub: &str, hint: &str) -> Jwtsvid {
    Jwtsvid { spiffe_id: sub.to_owned(), svid: token(sub), hint: hint.to_owned() }
}

fn td(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

/// Calls all five functions once; the answers do not matter.
async fn call_everything(client: &WorkloadClient) {
    let _ = client.fetch_x509().await;
    let _ = client.fetch_x509_bundles().await;
    let _ = client.fetch_jwt(&["db"], None).await;
    let _ = client.fetch_jwt_bundles().await;
    let _ = client.validate_jwt("db", "token").await;
}

#[tokio::test(start_paused = true)]
async fn we_06_every_request_carries_the_security_header_once() {
    let mut fake = Fake::start();
    let client = fake.client();
    call_everything(&client).await;
    let mut watch = client.watch_x509();
    for _ in 0..3 {
        watch.next().await; // a denial each, so each is a new request
    }
    fake.kill();
    fake.restart();
    call_everything(&client).await; // on a new connection
    let calls = fake.called(12).await;
    assert!(calls.iter().all(|call| call.header == ["true"]), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn wa_06_paths_have_no_package_and_we_33_no_other_service_is_called() {
    let fake = Fake::start();
    call_everything(&fake.client()).await;
    let calls = fake.called(5).await;
    let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/SpiffeWorkloadAPI/FetchX509SVID",
            "/SpiffeWorkloadAPI/FetchX509Bundles",
            "/SpiffeWorkloadAPI/FetchJWTSVID",
            "/SpiffeWorkloadAPI/FetchJWTBundles",
            "/SpiffeWorkloadAPI/ValidateJWTSVID",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn we_03_we_11_wa_01_the_x509_profile_works_in_plaintext_over_a_unix_socket() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    says(&fake, message(vec![authority.message("/w", "")]));
    fake.x509_bundles.send_replace(Says::Message(X509BundlesResponse {
        crl: Vec::new(),
        bundles: HashMap::from([(authority.domain.id().to_string(), authority.root.clone())]),
    }));
    let context = fake.client().fetch_x509().await.unwrap();
    assert_eq!(context.default_svid().id().as_str(), "spiffe://example.org/w");
    let bundles = fake.client().fetch_x509_bundles().await.unwrap().bundles;
    assert_eq!(bundles.get(&authority.domain), Some(&authority.bundle()));
}

#[tokio::test]
async fn we_17_a_tcp_endpoint_is_dialled() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    says(&fake, message(vec![authority.message("/w", "")]));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let socket = fake.socket();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut unix = tokio::net::UnixStream::connect(socket).await.unwrap();
        tokio::io::copy_bidirectional(&mut tcp, &mut unix).await
    });
    WorkloadClient::connect(&endpoint).fetch_x509().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wa_02_the_jwt_profile_works() {
    let fake = Fake::start();
    fake.jwt.send_replace(Says::Message(JwtsvidResponse { svids: vec![jwt("spiffe://example.org/w", "")] }));
    let bundles = HashMap::from([("spiffe://example.org".to_owned(), br#"{"keys":[]}"#.to_vec())]);
    fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
    let sub = Value { kind: Some(Kind::StringValue("spiffe://example.org/w".into())) };
    let claims = Struct { fields: [("sub".to_owned(), sub)].into() };
    let spiffe_id = "spiffe://example.org/w".to_owned();
    fake.validated.send_replace(Says::Message(ValidateJwtsvidResponse { spiffe_id, claims: Some(claims) }));

    let client = fake.client();
    let id = SpiffeId::parse("spiffe://example.org/w").unwrap();
    let tokens = client.fetch_jwt(&["db"], Some(&id)).await.unwrap();
    assert_eq!(tokens[0].id(), &id);
    assert!(!format!("{:?}", tokens[0]).contains(tokens[0].token()), "the token is printed");
    assert!(client.fetch_jwt_bundles().await.unwrap().bundles.get(&td("example.org")).unwrap().is_empty());
    let valid = client.validate_jwt("db", tokens[0].token()).await.unwrap();
    assert_eq!((valid.id.as_str(), &valid.claims["sub"]), ("spiffe://example.org/w", &"spiffe://example.org/w".into()));
}

#[tokio::test(start_paused = true)]
async fn wa_41_no_jwt_is_asked_for_without_an_audience() {
    let fake = Fake::start();
    for audience in [&[][..], &[""][..]] {
        assert!(matches!(fake.client().fetch_jwt(audience, None).await, Err(ClientError::NoAudience)));
    }
    assert!(matches!(fake.client().validate_jwt("", "token").await, Err(ClientError::NoAudience)));
    assert!(fake.calls.borrow().is_empty());
}

/// Events of a watch on a server that fails with `status` every time.
async fn ends_after_one_attempt(code: Code) {
    let fake = Fake::start();
    fake.x509.send_replace(Says::Fail(Status::new(code, "no")));
    let mut watch = fake.client().watch_x509();
    assert!(matches!(watch.next().await, Some(Event::Ended(status)) if status.code() == code));
    assert!(watch.next().await.is_none());
    assert_eq!(fake.calls.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn we_24_invalid_argument_is_terminal() {
    ends_after_one_attempt(Code::InvalidArgument).await;
}

#[tokio::test(start_paused = true)]
async fn we_29_unimplemented_is_reported_and_not_retried() {
    ends_after_one_attempt(Code::Unimplemented).await;
}

#[tokio::test(start_paused = true)]
async fn we_26_unavailable_is_retried_at_once_and_then_with_growing_delays() {
    let fake = Fake::start();
    fake.x509.send_replace(Says::Fail(Status::unavailable("not ready")));
    let mut watch = fake.client().watch_x509();
    for _ in 0..9 {
        assert!(matches!(watch.next().await, Some(Event::Lost(_))));
    }
    let calls = fake.called(9).await;
    let gaps: Vec<u64> = calls.windows(2).map(|two| (two[1].at - two[0].at).as_millis() as u64).collect();
    assert!(gaps[0] < 500, "{gaps:?}");
    for (gap, secs) in gaps[1..].iter().zip([1, 2, 4, 8, 16, 30, 30]) {
        assert!((secs * 750..=secs * 1000 + 5).contains(gap), "{gap} ms is not about {secs} s: {gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn we_26_an_absent_socket_is_tried_until_it_appears() {
    let authority = Authority::new("example.org");
    let mut fake = Fake::start();
    fake.kill();
    let mut watch = fake.client().watch_x509();
    for _ in 0..3 {
        assert!(matches!(watch.next().await, Some(Event::Lost(_))));
    }
    says(&fake, message(vec![authority.message("/w", "")]));
    fake.restart();
    while !matches!(watch.next().await, Some(Event::Update(_))) {}
}

#[tokio::test(start_paused = true)]
async fn we_28_wa_34_a_denied_caller_is_served_once_an_entry_exists() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    let mut watch = fake.client().watch_x509();
    let mut denials = Vec::new();
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(Event::Denied(_))));
        denials.push(tokio::time::Instant::now());
    }
    assert!(denials[1] - denials[0] >= Duration::from_millis(750), "a denial is not retried at once");
    says(&fake, message(vec![authority.message("/w", "")]));
    assert!(matches!(watch.next().await, Some(Event::Update(_))));
}

#[tokio::test(start_paused = true)]
async fn wa_07_one_stream_serves_however_long_nothing_changes() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    says(&fake, message(vec![authority.message("/w", "")]));
    let mut watch = fake.client().watch_x509();
    assert!(matches!(watch.next().await, Some(Event::Update(_))));
    assert!(tokio::time::timeout(Duration::from_secs(600), watch.next()).await.is_err(), "ten minutes of silence");
    says(&fake, message(vec![authority.message("/w", "")]));
    assert!(matches!(watch.next().await, Some(Event::Update(_))));
    assert_eq!(fake.calls.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wa_08_a_closed_stream_is_opened_anew_at_once() {
    let authority = Authority::new("example.org");
    let good = message(vec![authority.message("/w", "")]);
    for end in [Says::Close, Says::Fail(Status::unavailable("restarting"))] {
        let fake = Fake::start();
        says(&fake, good.clone());
        let mut watch = fake.client().watch_x509();
        assert!(matches!(watch.next().await, Some(Event::Update(_))));
        fake.x509.send_replace(end);
        assert!(matches!(watch.next().await, Some(Event::Lost(_))));
        let lost = tokio::time::Instant::now();
        says(&fake, good.clone());
        assert!(matches!(watch.next().await, Some(Event::Update(_))));
        assert!(lost.elapsed() <= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_13_wa_14_wa_15_a_message_replaces_everything_before_it() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    let fake = Fake::start();
    let mut first = federated(message(vec![ours.message("/w", "hint")]), OTHER, &theirs.root);
    first.crl = vec![ours.crl()];
    says(&fake, first);
    let mut watch = fake.client().watch_x509();
    let Some(Event::Update(before)) = watch.next().await else { panic!("no update") };
    assert!(before.bundles.get(&theirs.domain).is_some() && before.by_hint("hint").is_some() && before.crls.len() == 1);
    says(&fake, message(vec![ours.message("/w", "")]));
    let Some(Event::Update(after)) = watch.next().await else { panic!("no update") };
    assert!(after.bundles.get(&theirs.domain).is_none() && after.by_hint("hint").is_none() && after.crls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn wa_17_a_message_with_an_empty_mandatory_field_is_discarded() {
    let authority = Authority::new("example.org");
    let good = || authority.message("/w", "");
    let faults: [(&str, Vec<X509svid>); 5] = [
        ("svids", vec![]),
        ("spiffe_id", vec![good(), X509svid { spiffe_id: String::new(), ..good() }]),
        ("x509_svid", vec![X509svid { x509_svid: vec![], ..good() }]),
        ("x509_svid_key", vec![X509svid { x509_svid_key: vec![], ..good() }]),
        ("bundle", vec![X509svid { bundle: vec![], ..good() }]),
    ];
    for (expected, svids) in faults {
        match read(message(svids)).await {
            Err(UpdateError::Empty { field }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wa_17_a_watch_goes_on_after_a_discarded_message() {
    let authority = Authority::new("example.org");
    let fake = Fake::start();
    says(&fake, message(vec![]));
    let mut watch = fake.client().watch_x509();
    assert!(matches!(watch.next().await, Some(Event::Discarded(UpdateError::Empty { field: "svids" }))));
    says(&fake, message(vec![authority.message("/w", "")]));
    assert!(matches!(watch.next().await, Some(Event::Update(_))));
    assert_eq!(fake.calls.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wa_23_an_id_that_is_not_the_leafs_is_an_error() {
    let mut svid = Authority::new("example.org").message("/w", "");
    svid.spiffe_id = "spiffe://example.org/v".into();
    assert!(matches!(read(message(vec![svid])).await, Err(UpdateError::IdMismatch { .. })));
}

#[tokio::test(start_paused = true)]
async fn wa_24_a_chain_is_der_and_nothing_else() {
    let authority = Authority::new("example.org");
    let good = authority.message("/w", "");
    let with_tail = X509svid { x509_svid: [&good.x509_svid[..], b"\n"].concat(), ..good.clone() };
    let pem = X509svid { x509_svid: b"-----BEGIN CERTIFICATE-----".to_vec(), ..good };
    for svid in [with_tail, pem] {
        assert!(matches!(read(message(vec![svid])).await, Err(UpdateError::Svid { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_25_a_key_that_is_not_plain_pkcs8_is_an_error() {
    let good = Authority::new("example.org").message("/w", "");
    // In PKCS#8 for an EC key the SEC1 ECPrivateKey is the last OCTET STRING: tag, length, content.
    let at = good.x509_svid_key.windows(4).position(|w| w[0] == 0x04 && w[2] == 0x30).unwrap() + 2;
    let sec1 = good.x509_svid_key[at..].to_vec();
    let pkcs1 = vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x03];
    // EncryptedPrivateKeyInfo begins with an AlgorithmIdentifier where PKCS#8 has its version.
    let encrypted = vec![0x30, 0x09, 0x30, 0x03, 0x06, 0x01, 0x2a, 0x04, 0x02, 0x00, 0x00];
    for key in [sec1, pkcs1, encrypted] {
        let svid = X509svid { x509_svid_key: key, ..good.clone() };
        assert!(matches!(read(message(vec![svid])).await, Err(UpdateError::Svid { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_26_svids_of_two_domains_each_bring_their_own_bundle() {
    let (a, b) = (Authority::new("example.org"), Authority::new("other.test"));
    let context = read(message(vec![a.message("/w", ""), b.message("/w", "")])).await.unwrap();
    for authority in [&a, &b] {
        assert_eq!(context.bundles.get(&authority.domain), Some(&authority.bundle()));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_27_crls_are_optional_and_parsed_one_by_one() {
    let authority = Authority::new("example.org");
    let with = |crl| X509svidResponse { crl, ..message(vec![authority.message("/w", "")]) };
    assert_eq!(read(with(vec![authority.crl()])).await.unwrap().crls.len(), 1);
    let two_in_one = [authority.crl(), authority.crl()].concat();
    for bad in [two_in_one, b"crl".to_vec(), vec![]] {
        let fault = read(with(vec![authority.crl(), bad])).await.unwrap_err();
        assert!(matches!(fault, UpdateError::Crl { index: 1 }));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_28_a_federated_bundles_key_is_a_bare_domain_id() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    for key in ["other.test", "spiffe://other.test/", "spiffe://other.test/w", "", "https://other.test"] {
        let sent = federated(message(vec![ours.message("/w", "")]), key, &theirs.root);
        assert!(matches!(read(sent).await, Err(UpdateError::BundleKey { .. })), "{key:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn wa_29_a_federated_domain_without_roots_is_no_error() {
    let ours = Authority::new("example.org");
    let context = read(federated(message(vec![ours.message("/w", "")]), OTHER, b"")).await.unwrap();
    assert!(context.bundles.get(&td("other.test")).unwrap().is_empty());
    assert_eq!(context.svids.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wa_31_the_first_svid_with_a_hint_wins() {
    let authority = Authority::new("example.org");
    let svids = ["/a", "/b", "/c"].map(|path| authority.message(path, if path == "/c" { "h2" } else { "h1" }));
    let context = read(message(svids.to_vec())).await.unwrap();
    let paths: Vec<&str> = context.svids.iter().map(|issued| issued.svid.id().path()).collect();
    assert_eq!(paths, ["/a", "/c"]);
}

#[tokio::test(start_paused = true)]
async fn wa_32_empty_hints_are_never_duplicates() {
    let authority = Authority::new("example.org");
    let context = read(message(vec![authority.message("/a", ""), authority.message("/b", "")])).await.unwrap();
    assert_eq!(context.svids.len(), 2);
    assert!(context.by_hint("").is_none());
}

#[tokio::test(start_paused = true)]
async fn wa_39_wa_40_bundle_watchers_retry_a_denial_and_drop_what_is_redacted() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("other.test"));
    let fake = Fake::start();
    let mut watch = fake.client().watch_x509_bundles();
    assert!(matches!(watch.next().await, Some(Event::Denied(_))));
    let own = (ours.domain.id().to_string(), ours.root.clone());
    let say = |bundles| Says::Message(X509BundlesResponse { crl: Vec::new(), bundles });
    fake.x509_bundles.send_replace(say(HashMap::from([own.clone(), (OTHER.to_owned(), theirs.root)])));
    let Some(Event::Update(both)) = watch.next().await else { panic!("no update") };
    assert_eq!(both.bundles.len(), 2);
    fake.x509_bundles.send_replace(say(HashMap::from([own])));
    let Some(Event::Update(one)) = watch.next().await else { panic!("no update") };
    assert!(one.bundles.get(&theirs.domain).is_none());
    fake.x509_bundles.send_replace(Says::Fail(Status::permission_denied("no")));
    assert!(matches!(watch.next().await, Some(Event::Denied(_))));
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_connection_that_died_is_made_once_more() {
    let mut fake = Fake::start();
    fake.jwt.send_replace(Says::Message(JwtsvidResponse { svids: vec![jwt("spiffe://example.org/w", "")] }));
    let client = fake.client();
    client.fetch_jwt(&["db"], None).await.unwrap();
    fake.kill();
    fake.restart();
    client.fetch_jwt(&["db"], None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_servers_own_refusal_is_not_asked_twice() {
    let fake = Fake::start();
    fake.jwt.send_replace(Says::Fail(Status::unavailable("busy")));
    assert!(fake.client().fetch_jwt(&["db"], None).await.is_err());
    assert_eq!(fake.calls.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wa_43_an_unusable_jwt_answer_is_an_error() {
    let good = || jwt("spiffe://example.org/w", "");
    let answers = [
        vec![],
        vec![Jwtsvid { spiffe_id: String::new(), ..good() }],
        vec![Jwtsvid { svid: String::new(), ..good() }],
        vec![Jwtsvid { svid: "a.b".into(), ..good() }],
        vec![Jwtsvid { spiffe_id: "spiffe://example.org/v".into(), ..good() }],
    ];
    for svids in answers {
        let fake = Fake::start();
        fake.jwt.send_replace(Says::Message(JwtsvidResponse { svids }));
        assert!(matches!(fake.client().fetch_jwt(&["db"], None).await, Err(ClientError::Answer(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn wa_45_the_first_jwt_with_a_hint_wins_and_cf_15_the_default_is_first() {
    let fake = Fake::start();
    let svids =
        vec![jwt("spiffe://td/a", "h"), jwt("spiffe://td/b", "h"), jwt("spiffe://td/c", ""), jwt("spiffe://td/d", "")];
    fake.jwt.send_replace(Says::Message(JwtsvidResponse { svids }));
    let tokens = fake.client().fetch_jwt(&["db"], None).await.unwrap();
    let paths: Vec<&str> = tokens.iter().map(|token| token.id().path()).collect();
    assert_eq!(paths, ["/a", "/c", "/d"]);
}

#[tokio::test(start_paused = true)]
async fn wa_46_a_jwt_bundle_that_is_no_jwks_is_discarded() {
    let fake = Fake::start();
    for (key, jwks) in [("spiffe://td", "[]"), ("spiffe://td/", r#"{"keys":[]}"#), ("spiffe://td", "")] {
        let bundles = HashMap::from([(key.to_owned(), jwks.as_bytes().to_vec())]);
        fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
        assert!(matches!(fake.client().fetch_jwt_bundles().await, Err(ClientError::Answer(_))), "{key} {jwks}");
    }
}

#[tokio::test(start_paused = true)]
async fn wa_50_wa_51_jwt_bundle_watchers_retry_a_denial_and_drop_what_is_redacted() {
    let fake = Fake::start();
    let mut watch = fake.client().watch_jwt_bundles();
    assert!(matches!(watch.next().await, Some(Event::Denied(_))));
    for keys in [&["spiffe://td", OTHER][..], &["spiffe://td"][..]] {
        let bundles = keys.iter().map(|key| ((*key).to_owned(), br#"{"keys":[]}"#.to_vec())).collect();
        fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
        let Some(Event::Update(update)) = watch.next().await else { panic!("no update") };
        assert_eq!(update.bundles.len(), keys.len());
    }
}

#[tokio::test(start_paused = true)]
async fn cf_04_a_foreign_root_with_an_invalid_san_still_counts() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::with_san("other.test", "spiffe://other.test/"));
    let context = read(federated(message(vec![ours.message("/w", "")]), OTHER, &theirs.root)).await.unwrap();
    let leaf = theirs.issue("/w").chain.into();
    chancery_sdk::x509::verify(&[leaf], &context.bundles, support::now()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn cf_09_keys_of_an_unknown_use_do_not_sink_a_jwt_bundle() {
    let fake = Fake::start();
    let jwks = br#"{"keys":[{"use":"wit-svid","kty":"EC","kid":"w"},{"use":"tomorrow","kty":"X"}]}"#;
    let bundles = HashMap::from([("spiffe://td".to_owned(), jwks.to_vec())]);
    fake.jwt_bundles.send_replace(Says::Message(JwtBundlesResponse { bundles }));
    assert!(fake.client().fetch_jwt_bundles().await.unwrap().bundles.get(&td("td")).unwrap().is_empty());
}
