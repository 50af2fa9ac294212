//! The SPIFFE Workload API over the real socket: rows of sections 6, 7 and 11 of the conformance list with who = agent.

mod support;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use chancery_attestor::api::Verifiers;
use chancery_daemon::clock;
use chancery_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest, X509BundlesRequest,
    X509svidRequest,
};
use chancery_sdk::{
    id::TrustDomain,
    origin::Origin,
    workload::{Endpoint, WorkloadClient},
    x509::{X509Bundle, X509BundleSet, X509Svid, verify},
};
use prost_types::value::Kind;
use serde_json::json;
use tonic::{Code, Request, metadata::MetadataValue};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use support::{
    FakeCa, Node,
    ca::split,
    class,
    client::{next, with_header},
    code, entry, ids, me,
};

/// A node with one entry that matches this process.
async fn one() -> Node {
    Node::start(FakeCa::new(vec![entry("w", &[&me()])], vec![])).await
}

/// A node on which nobody is anything.
async fn stranger() -> Node {
    Node::start(FakeCa::new(vec![entry("w", &["unix:uid:4000000000"])], vec![])).await
}

#[tokio::test]
async fn sp_02_caller_needs_the_header_and_nothing_else() {
    assert!(one().await.client().await.x509().await.is_ok());
}

#[tokio::test]
async fn sp_03_foreign_bundles_go_with_the_svid() {
    let (node, _) = federated().await;
    assert!(node.client().await.x509().await.unwrap().federated_bundles.contains_key("spiffe://other.test"));
}

#[tokio::test]
async fn sp_04_incubating_profile_is_off() {
    let mut api = one().await.client().await.api();
    assert_eq!(code(api.fetch_witsvid(with_header(WitsvidRequest::default())).await), Code::Unimplemented);
}

#[tokio::test]
async fn we_01_endpoint_is_local() {
    use std::os::unix::fs::FileTypeExt;
    let node = one().await;
    assert!(std::fs::metadata(node.socket()).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn we_03_endpoint_speaks_grpc() {
    // h2c with prior knowledge: what every gRPC client does on a UNIX socket.
    assert!(one().await.client().await.x509().await.is_ok());
}

#[tokio::test]
async fn we_02_we_04_we_05_only_a_unix_socket_can_be_configured() {
    // There is no TCP listener: whatever stands there is a path (WE-02, WE-05 hold by absence).
    let ca = FakeCa::new(vec![], vec![]);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let node = Node::bare(ca, Arc::clone(&dir), Verifiers::Entitled).await;
    let own: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", std::process::id()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = std::fs::read_to_string(table) else { continue };
        // State 0A is LISTEN; the tenth column is the socket's inode.
        let listening = table.lines().filter(|l| l.split_whitespace().nth(3) == Some("0A"));
        let inodes: Vec<_> = listening.filter_map(|l| l.split_whitespace().nth(9)).collect();
        assert!(!inodes.iter().any(|inode| own.iter().any(|o| o == inode)), "a TCP listener of ours");
    }
    drop(node);
}

#[tokio::test]
async fn we_10_other_services_on_the_socket_are_free_of_the_header() {
    assert!(one().await.client().await.serving().await);
}

#[tokio::test]
async fn we_11_needs_no_tls() {
    assert!(one().await.client().await.x509().await.is_ok());
}

#[tokio::test]
async fn we_07_request_without_the_exact_header_is_refused() {
    let node = one().await;
    for value in [None, Some("false"), Some("True"), Some("1"), Some("")] {
        let mut request = Request::new(X509svidRequest {});
        if let Some(value) = value {
            request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static(value));
        }
        assert_eq!(code(node.client().await.api().fetch_x509svid(request).await), Code::InvalidArgument, "{value:?}");
    }
}

#[tokio::test]
async fn we_08_repeated_header_is_invalid_argument_on_every_method() {
    let node = one().await;
    fn twice<T>(message: T) -> Request<T> {
        let mut request = with_header(message);
        request.metadata_mut().append("workload.spiffe.io", MetadataValue::from_static("true"));
        request
    }
    let mut api = node.client().await.api();
    let codes = [
        code(api.fetch_x509svid(twice(X509svidRequest {})).await),
        code(api.fetch_x509_bundles(twice(X509BundlesRequest {})).await),
        code(api.fetch_jwtsvid(twice(JwtsvidRequest::default())).await),
        code(api.fetch_jwt_bundles(twice(JwtBundlesRequest {})).await),
        code(api.validate_jwtsvid(twice(ValidateJwtsvidRequest::default())).await),
        code(api.fetch_witsvid(twice(WitsvidRequest::default())).await),
        code(api.fetch_wit_bundles(twice(WitBundlesRequest {})).await),
    ];
    assert_eq!(codes, [Code::InvalidArgument; 7]);
}

#[tokio::test]
async fn we_09_header_is_checked_before_the_caller_is_looked_at() {
    let node = stranger().await;
    let answer = node.client().await.api().fetch_x509svid(Request::new(X509svidRequest {})).await;
    assert_eq!(code(answer), Code::InvalidArgument);
}

#[tokio::test]
async fn we_20_caller_shows_no_credential_of_its_own() {
    let node = one().await;
    assert_eq!(ids(&node.client().await.x509().await.unwrap()), ["spiffe://example.org/w"]);
}

#[tokio::test]
async fn we_25_nothing_is_served_before_the_first_sync_but_unavailable() {
    let ca = FakeCa::new(vec![entry("w", &[&me()])], vec![]);
    ca.change(|s| s.away = true);
    let node = Node::bare(ca, Arc::new(tempfile::tempdir().unwrap()), Verifiers::Entitled).await;
    let client = node.client().await;
    assert_eq!(code(client.x509().await), Code::Unavailable);
    assert_eq!(code(client.jwt(&["a"], "").await), Code::Unavailable);
    assert!(!client.serving().await);
    node.stand();
    assert_eq!(code(client.x509_bundles().await), Code::Unavailable);
    node.ca.change(|s| s.away = false);
    node.ready().await;
    assert!(client.x509().await.is_ok());
}

#[tokio::test]
async fn we_27_caller_without_identity_is_denied() {
    let status = stranger().await.client().await.x509().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"));
}

#[tokio::test]
async fn we_30_service_has_exactly_the_seven_standard_methods() {
    let set: prost_types::FileDescriptorSet = prost::Message::decode(chancery_proto::workload::DESCRIPTOR).unwrap();
    let file = set.file.iter().find(|f| !f.service.is_empty()).unwrap();
    let methods: Vec<_> = file.service[0].method.iter().map(|m| m.name()).collect();
    let standard = [
        "FetchX509SVID",
        "FetchX509Bundles",
        "FetchJWTSVID",
        "FetchJWTBundles",
        "ValidateJWTSVID",
        "FetchWITSVID",
        "FetchWITBundles",
    ];
    assert_eq!(methods, standard);
}

#[tokio::test]
async fn we_31_workload_api_is_there_whenever_the_endpoint_is() {
    let node =
        Node::bare(FakeCa::new(vec![], vec![]), Arc::new(tempfile::tempdir().unwrap()), Verifiers::Entitled).await;
    // Not attested, not synced: reachable all the same.
    assert_eq!(code(node.client().await.x509().await), Code::Unavailable);
}

#[tokio::test]
async fn wa_06_service_has_no_package() {
    let set: prost_types::FileDescriptorSet = prost::Message::decode(chancery_proto::workload::DESCRIPTOR).unwrap();
    let file = set.file.iter().find(|f| !f.service.is_empty()).unwrap();
    assert_eq!((file.package(), file.service[0].name()), ("", "SpiffeWorkloadAPI"));
}

#[tokio::test]
async fn wa_05_messages_have_exactly_the_standard_fields() {
    let set: prost_types::FileDescriptorSet = prost::Message::decode(chancery_proto::workload::DESCRIPTOR).unwrap();
    let file = set.file.iter().find(|f| !f.service.is_empty()).unwrap();
    let fields = |message: &str| -> Vec<(String, i32)> {
        let found = file.message_type.iter().find(|m| m.name() == message).unwrap();
        found.field.iter().map(|f| (f.name().to_owned(), f.number())).collect()
    };
    let named = |list: &[(&str, i32)]| list.iter().map(|(n, i)| ((*n).to_owned(), *i)).collect::<Vec<_>>();
    let svid = [("spiffe_id", 1), ("x509_svid", 2), ("x509_svid_key", 3), ("bundle", 4), ("hint", 5)];
    assert_eq!(fields("X509SVID"), named(&svid));
    assert_eq!(fields("X509SVIDResponse"), named(&[("svids", 1), ("crl", 2), ("federated_bundles", 3)]));
    assert_eq!(fields("X509BundlesResponse"), named(&[("crl", 1), ("bundles", 2)]));
    assert_eq!(fields("JWTSVID"), named(&[("spiffe_id", 1), ("svid", 2), ("hint", 3)]));
    assert_eq!(fields("ValidateJWTSVIDResponse"), named(&[("spiffe_id", 1), ("claims", 2)]));
}

#[tokio::test]
async fn we_32_reflection_lists_the_services() {
    reflects().await;
}

#[tokio::test]
async fn cf_08_reflection_and_health_need_no_header() {
    let client = reflects().await;
    assert!(client.serving().await);
}

/// Asks for the list of services, without the header.
async fn reflects() -> support::Client {
    let node = stranger().await;
    let client = node.client().await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(client.channel.clone())
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = next(&mut answers).await.unwrap().message_response else {
        panic!("a list of services")
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|s| s.name).collect();
    assert!(names.contains("SpiffeWorkloadAPI") && names.contains("grpc.health.v1.Health"), "{names:?}");
    client
}

#[tokio::test]
async fn wa_01_x509_profile_is_there() {
    let client = one().await;
    let client = client.client().await;
    assert!(client.x509().await.is_ok() && client.x509_bundles().await.is_ok());
}

#[tokio::test]
async fn wa_02_jwt_profile_is_there() {
    let client = one().await;
    let client = client.client().await;
    let token = client.jwt(&["a"], "").await.unwrap().svids.remove(0).svid;
    assert!(client.jwt_bundles().await.is_ok() && client.validate("a", &token).await.is_ok());
}

#[tokio::test]
async fn wa_09_every_message_is_the_whole_state() {
    let node = one().await;
    let mut stream = node.client().await.watch_x509().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 1);
    node.ca.change(|s| s.entries.push(entry("x", &[&me()])));
    let second = next(&mut stream).await.unwrap();
    assert_eq!(ids(&second), ["spiffe://example.org/w", "spiffe://example.org/x"]);
    assert!(second.svids.iter().all(|s| !s.bundle.is_empty() && !s.x509_svid_key.is_empty()));
}

#[tokio::test]
async fn wa_10_rotation_is_pushed_with_a_new_key() {
    let ca = FakeCa::new(vec![entry("w", &[&me()])], vec![]);
    ca.change(|s| s.ttl = 5);
    let node = Node::start(ca).await;
    let mut stream = node.client().await.watch_x509().await.unwrap();
    let (first, second) = (next(&mut stream).await.unwrap(), next(&mut stream).await.unwrap());
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
    assert_eq!(ids(&first), ids(&second));
}

#[tokio::test]
async fn wa_11_first_message_comes_without_waiting_for_a_change() {
    let node = one().await;
    let client = node.client().await;
    client.x509().await.unwrap();
    node.ca.change(|s| s.away = true);
    let first = tokio::time::timeout(std::time::Duration::from_secs(1), client.x509()).await;
    assert!(first.expect("within a second").is_ok());
}

#[tokio::test]
async fn wa_12_unchanged_bundles_are_not_sent_again() {
    let node = one().await;
    let mut stream = node.client().await.watch_x509_bundles().await.unwrap();
    next(&mut stream).await.unwrap();
    // A change that touches no bundle: were it sent, it would come before the one that does.
    node.ca.change(|s| s.entries.push(entry("x", &[&me()])));
    node.ca.polled().await;
    node.ca.change_bundle(|b| b.sequence_number += 1);
    node.ca.polled().await;
    let fresh = FakeCa::new(vec![], vec![]).own_bundle().x509_authorities[0].clone();
    node.ca.change_bundle(|b| b.x509_authorities.push(fresh));
    let second = next(&mut stream).await.unwrap();
    assert_eq!(split(&second.bundles["spiffe://example.org"]).len(), 2);
}

#[tokio::test]
async fn wa_16_empty_mandatory_fields_are_invalid_argument() {
    // Before attestation: the caller is nobody, and it is not told so.
    let client = stranger().await;
    let client = client.client().await;
    assert_eq!(code(client.jwt(&[], "").await), Code::InvalidArgument);
    assert_eq!(code(client.jwt(&["a", ""], "").await), Code::InvalidArgument);
    assert_eq!(code(client.validate("", "x").await), Code::InvalidArgument);
    assert_eq!(code(client.validate("a", "").await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_20_one_svid_for_each_granted_identity() {
    let entries = ["a", "b", "c"].map(|id| entry(id, &[&me()]));
    let node = Node::start(FakeCa::new(entries.into(), vec![])).await;
    assert_eq!(node.client().await.x509().await.unwrap().svids.len(), 3);
}

#[tokio::test]
async fn wa_22_all_fields_but_the_hint_are_set() {
    let sent = sent().await;
    assert!(!sent.spiffe_id.is_empty() && !sent.x509_svid.is_empty());
    assert!(!sent.x509_svid_key.is_empty() && !sent.bundle.is_empty());
}

/// The one SVID of a node with one entry.
async fn sent() -> chancery_proto::workload::X509svid {
    one().await.client().await.x509().await.unwrap().svids.remove(0)
}

#[tokio::test]
async fn wa_23_id_is_the_leafs() {
    let sent = sent().await;
    let svid = X509Svid::parse(&sent.x509_svid, &sent.x509_svid_key).unwrap();
    assert_eq!(svid.id().as_str(), sent.spiffe_id);
}

#[tokio::test]
async fn wa_24_chain_is_concatenated_der_with_the_leaf_first() {
    let sent = sent().await;
    let chain = split(&sent.x509_svid);
    assert_eq!(chancery_sdk::x509::leaf_id(&chain[0]).unwrap().as_str(), sent.spiffe_id);
}

#[tokio::test]
async fn wa_25_key_is_plain_pkcs8() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let random = ring::rand::SystemRandom::new();
    assert!(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &sent().await.x509_svid_key, &random).is_ok());
}

#[tokio::test]
async fn wa_26_bundle_verifies_the_leaf() {
    let sent = sent().await;
    let svid = X509Svid::parse(&sent.x509_svid, &sent.x509_svid_key).unwrap();
    let domain = TrustDomain::new("example.org").unwrap();
    let mut bundles = X509BundleSet::new();
    bundles.insert(X509Bundle::from_der_concatenated(domain, &sent.bundle).unwrap());
    let peer = verify(svid.chain(), &bundles, clock::now()).unwrap();
    assert_eq!(peer.id.as_str(), sent.spiffe_id);
}

#[tokio::test]
async fn wa_27_no_crl_is_sent() {
    assert!(one().await.client().await.x509().await.unwrap().crl.is_empty());
}

/// A node whose entry federates with `other.test`, and with a domain the CA has no bundle of; and that domain's CA.
async fn federated() -> (Node, Arc<FakeCa>) {
    let other = FakeCa::of("other.test", vec![], vec![]);
    let domain = TrustDomain::new("other.test").unwrap();
    let mut federating = entry("w", &[&me()]);
    federating.federates_with = vec![domain.clone(), TrustDomain::new("unknown.test").unwrap()];
    let ca = FakeCa::new(vec![federating], vec![]);
    ca.change(|s| s.federated = [(domain, (*other.own_bundle()).clone())].into());
    (Node::start(ca).await, other)
}

#[tokio::test]
async fn wa_28_federated_bundles_are_under_the_domains_id() {
    let (node, other) = federated().await;
    let client = node.client().await;
    let x509 = client.x509().await.unwrap();
    let keys: Vec<_> = x509.federated_bundles.keys().cloned().collect();
    assert_eq!(keys, ["spiffe://other.test"]);
    assert_eq!(split(&x509.federated_bundles["spiffe://other.test"]), other.own_bundle().x509_authorities);
    assert_eq!(client.x509_bundles().await.unwrap().bundles.len(), 2);
    assert_eq!(client.jwt_bundles().await.unwrap().bundles.len(), 2);
}

#[tokio::test]
async fn wa_30_shared_hint_is_given_to_the_oldest_entry_only() {
    assert_eq!(ids(&hinted().await.client().await.x509().await.unwrap()), ["spiffe://example.org/b"]);
}

/// A node with two entries of one hint, `b` the older one.
async fn hinted() -> Node {
    let hinted = |id: &str, created_at| {
        let mut e = entry(id, &[&me()]);
        (e.hint, e.created_at) = ("internal".into(), created_at);
        e
    };
    Node::start(FakeCa::new(vec![hinted("a", 20), hinted("b", 10)], vec![])).await
}

#[tokio::test]
async fn wa_45_shared_hint_is_given_to_the_oldest_entrys_token_before_the_filter_by_id() {
    let client = hinted().await;
    let client = client.client().await;
    assert_eq!(client.jwt(&["x"], "").await.unwrap().svids[0].spiffe_id, "spiffe://example.org/b");
    assert_eq!(code(client.jwt(&["x"], "spiffe://example.org/a").await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_32_empty_hints_are_never_duplicates() {
    let node = Node::start(FakeCa::new(vec![entry("a", &[&me()]), entry("b", &[&me()])], vec![])).await;
    assert_eq!(node.client().await.x509().await.unwrap().svids.len(), 2);
}

#[tokio::test]
async fn wa_33_stranger_gets_no_x509_svid() {
    assert_eq!(code(stranger().await.client().await.x509().await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_39_stranger_gets_no_x509_bundles() {
    assert_eq!(code(stranger().await.client().await.x509_bundles().await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_50_stranger_gets_no_jwt_bundles() {
    assert_eq!(code(stranger().await.client().await.jwt_bundles().await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_35_stream_ends_denied_when_the_last_entry_goes() {
    let node = one().await;
    let mut stream = node.client().await.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    node.ca.change(|s| s.entries.clear());
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_38_own_domain_is_always_among_the_x509_bundles() {
    let node = one().await;
    let x509 = node.client().await.x509_bundles().await.unwrap().bundles;
    assert_eq!(split(&x509["spiffe://example.org"]), node.ca.own_bundle().x509_authorities);
}

#[tokio::test]
async fn wa_47_own_domain_is_among_the_jwt_bundles_even_without_keys() {
    let node = one().await;
    node.ca.change_bundle(|b| b.jwt_authorities.clear());
    node.ca.polled().await;
    let client = node.client().await;
    assert_eq!(client.jwt_bundles().await.unwrap().bundles["spiffe://example.org"], br#"{"keys":[]}"#);
}

#[tokio::test]
async fn wa_39_operator_may_give_strangers_our_own_bundles() {
    let other = TrustDomain::new("other.test").unwrap();
    let mut federating = entry("w", &["unix:uid:4000000000"]);
    federating.federates_with = vec![other.clone()];
    let ca = FakeCa::new(vec![federating], vec![]);
    ca.change(|s| s.federated = [(other, (*FakeCa::of("other.test", vec![], vec![]).own_bundle()).clone())].into());
    let node = Node::bare(ca, Arc::new(tempfile::tempdir().unwrap()), Verifiers::Anyone).await;
    node.stand();
    node.ready().await;
    let client = node.client().await;
    let keys: Vec<_> = client.x509_bundles().await.unwrap().bundles.into_keys().collect();
    assert_eq!(keys, ["spiffe://example.org"]);
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_41_every_audience_is_in_the_token_and_in_the_cache_key() {
    let node = one().await;
    let client = node.client().await;
    let token = client.jwt(&["b", "a"], "").await.unwrap().svids.remove(0).svid;
    let answer = client.validate("b", &token).await.unwrap();
    let Some(Kind::ListValue(list)) = &answer.claims.unwrap().fields["aud"].kind else { panic!("a list") };
    let audience: Vec<_> = list.values.iter().map(|v| v.kind.clone()).collect();
    assert_eq!(audience, ["a", "b"].map(|a| Some(Kind::StringValue(a.into()))));
    // The same set in another order is the same token; another set is another.
    assert_eq!(client.jwt(&["a", "b"], "").await.unwrap().svids[0].svid, token);
    assert_ne!(client.jwt(&["a"], "").await.unwrap().svids[0].svid, token);
    assert_eq!(node.ca.look(|s| s.jwts), 2);
}

#[tokio::test]
async fn wa_42_token_for_every_identity_or_for_the_one_asked() {
    let node = Node::start(FakeCa::new(vec![entry("a", &[&me()]), entry("b", &[&me()])], vec![])).await;
    let client = node.client().await;
    assert_eq!(client.jwt(&["x"], "").await.unwrap().svids.len(), 2);
    let one = client.jwt(&["x"], "spiffe://example.org/b").await.unwrap().svids;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].spiffe_id, "spiffe://example.org/b");
}

#[tokio::test]
async fn wa_43_token_and_id_are_set_and_the_id_is_its_subject() {
    let node = one().await;
    let client = node.client().await;
    let sent = client.jwt(&["x"], "").await.unwrap().svids.remove(0);
    assert_eq!(client.validate("x", &sent.svid).await.unwrap().spiffe_id, sent.spiffe_id);
}

#[tokio::test]
async fn wa_44_identity_of_another_is_denied_and_a_malformed_one_invalid() {
    assert_eq!(code(stranger().await.client().await.jwt(&["a"], "").await), Code::PermissionDenied);
    let client = one().await;
    let client = client.client().await;
    assert_eq!(code(client.jwt(&["x"], "spiffe://example.org/other").await), Code::PermissionDenied);
    assert_eq!(code(client.jwt(&["x"], "not-an-id").await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_46_bundle_is_a_jwk_set_under_the_domains_id() {
    assert!(jwks().await["keys"].is_array());
}

async fn jwks() -> serde_json::Value {
    let bundles = one().await.client().await.jwt_bundles().await.unwrap().bundles;
    serde_json::from_slice(&bundles["spiffe://example.org"]).unwrap()
}

#[tokio::test]
async fn wa_48_jwk_set_holds_jwt_keys_only() {
    let jwks = jwks().await;
    let keys = jwks["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["kid"], &keys[0]["kty"]), (1, &json!("k1"), &json!("EC")));
    assert!(keys[0].get("use").is_none() && jwks.get("spiffe_sequence").is_none());
}

#[tokio::test]
async fn wa_52_bad_tokens_are_invalid_argument_and_never_repeated() {
    let node = stranger().await;
    let client = node.client().await;
    let now = clock::now().0;
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"});
    let good = json!({"sub": "spiffe://example.org/w", "aud": ["a"], "exp": now + 60});
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[key] = value;
        node.ca.sign(&header, &claims)
    };
    let without = |key: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(key);
        node.ca.sign(&header, &claims)
    };
    let headed = |h: serde_json::Value| node.ca.sign(&h, &good);
    let mut flipped = node.ca.sign(&header, &good);
    flipped.insert(flipped.len() - 10, 'A');
    let bad = [
        ("expired", with("exp", json!(now - 600))),
        ("no exp", without("exp")),
        ("no sub", without("sub")),
        ("no aud", without("aud")),
        ("sub is no ID", with("sub", json!("w"))),
        ("unknown domain", with("sub", json!("spiffe://other.test/w"))),
        ("none", headed(json!({"alg": "none", "kid": "k1"}))),
        ("symmetric", headed(json!({"alg": "HS256", "kid": "k1"}))),
        ("unknown kid", headed(json!({"alg": "ES256", "kid": "k2"}))),
        ("no kid", headed(json!({"alg": "ES256"}))),
        ("wrong typ", headed(json!({"alg": "ES256", "kid": "k1", "typ": "XYZ"}))),
        ("signature", flipped),
        ("no token", "x".into()),
    ];
    assert!(client.validate("a", &node.ca.sign(&header, &good)).await.is_ok());
    for (what, token) in bad {
        let status = client.validate("a", &token).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}");
        assert!(token.len() < 10 || !status.message().contains(&token), "{what} is repeated");
    }
}

#[tokio::test]
async fn wa_53_token_is_valid_for_exactly_the_given_audience() {
    let node = one().await;
    let client = node.client().await;
    let token = client.jwt(&["a"], "").await.unwrap().svids.remove(0).svid;
    assert!(client.validate("a", &token).await.is_ok());
    assert_eq!(code(client.validate("b", &token).await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_54_claims_hold_sub_aud_and_exp_with_aud_as_a_list() {
    let node = one().await;
    let now = clock::now().0;
    let token = node.ca.token("spiffe://example.org/w", &json!("a"), now, now + 60);
    let answer = node.client().await.validate("a", &token).await.unwrap();
    let claims = answer.claims.unwrap().fields;
    assert!(matches!(claims["aud"].kind, Some(Kind::ListValue(_))));
    assert!(claims.contains_key("sub") && claims.contains_key("exp") && claims.contains_key("role"));
}

#[tokio::test]
async fn wa_55_foreign_token_tells_its_registered_claims_only() {
    let (node, other) = federated().await;
    let now = clock::now().0;
    let token = other.token("spiffe://other.test/w", &json!(["a"]), now, now + 60);
    let claims = node.client().await.validate("a", &token).await.unwrap().claims.unwrap().fields;
    assert_eq!(claims.keys().collect::<Vec<_>>(), ["aud", "exp", "sub"]);
}

#[tokio::test]
async fn wa_56_every_field_of_a_validation_is_mandatory() {
    let node = one().await;
    let client = node.client().await;
    assert_eq!(code(client.validate("", "").await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_57_foreign_token_verifies_for_those_federated_only() {
    let other = FakeCa::of("other.test", vec![], vec![]);
    let domain = TrustDomain::new("other.test").unwrap();
    let now = clock::now().0;
    let token = other.token("spiffe://other.test/w", &json!(["a"]), now, now + 60);
    let node = one().await;
    let client = node.client().await;
    node.ca.change(|s| s.federated = [(domain.clone(), (*other.own_bundle()).clone())].into());
    assert_eq!(code(client.validate("a", &token).await), Code::InvalidArgument);
    node.ca.change(|s| s.entries[0].federates_with = vec![domain]);
    node.ca.polled().await;
    assert!(client.validate("a", &token).await.is_ok());
}

#[tokio::test]
async fn wa_04_wa_60_wit_is_unimplemented_for_everybody_after_the_header() {
    let node = stranger().await;
    let mut api = node.client().await.api();
    assert_eq!(code(api.fetch_witsvid(with_header(WitsvidRequest::default())).await), Code::Unimplemented);
    assert_eq!(code(api.fetch_wit_bundles(with_header(WitBundlesRequest {})).await), Code::Unimplemented);
    assert_eq!(code(api.fetch_witsvid(Request::new(WitsvidRequest::default())).await), Code::InvalidArgument);
}

#[tokio::test]
async fn wa_70_order_is_by_entry_id_whatever_the_ca_says() {
    let node = three().await;
    assert_eq!(
        ids(&node.client().await.x509().await.unwrap()),
        ["a", "b", "c"].map(|id| format!("spiffe://example.org/{id}"))
    );
}

#[tokio::test]
async fn cf_15_default_identity_is_first_among_tokens_too() {
    let node = three().await;
    let tokens = node.client().await.jwt(&["x"], "").await.unwrap().svids;
    let tokens: Vec<_> = tokens.into_iter().map(|s| s.spiffe_id).collect();
    assert_eq!(tokens, ["a", "b", "c"].map(|id| format!("spiffe://example.org/{id}")));
}

/// A node with three entries, told in no order.
async fn three() -> Node {
    Node::start(FakeCa::new(["c", "a", "b"].map(|id| entry(id, &[&me()])).into(), vec![])).await
}

#[tokio::test]
async fn entry_made_after_the_last_poll_serves_its_first_caller() {
    let node = stranger().await;
    node.ca.change(|s| s.entries.push(entry("x", &[&me()])));
    assert_eq!(ids(&node.client().await.x509().await.unwrap()), ["spiffe://example.org/x"]);
}

#[tokio::test]
async fn entry_without_prefetch_is_issued_to_its_first_caller() {
    let mut lazy = entry("w", &[&me()]);
    lazy.disable_x509_svid_prefetch = true;
    let node = Node::start(FakeCa::new(vec![lazy], vec![])).await;
    node.ca.polled().await;
    assert_eq!(node.ca.look(|s| s.x509), 0);
    assert!(node.client().await.x509().await.is_ok());
}

#[tokio::test]
async fn identities_are_served_while_the_ca_is_away() {
    let node = one().await;
    let client = node.client().await;
    client.x509().await.unwrap();
    let token = client.jwt(&["a"], "").await.unwrap();
    node.ca.change(|s| s.away = true);
    assert!(client.x509().await.is_ok());
    assert_eq!(client.jwt(&["a"], "").await.unwrap(), token);
    assert_eq!(code(client.jwt(&["b"], "").await), Code::Unavailable);
}

#[tokio::test]
async fn stream_ends_unavailable_on_shutdown() {
    let node = one().await;
    let mut stream = node.client().await.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    node.shutdown.begin();
    assert_eq!(code(next(&mut stream).await), Code::Unavailable);
}

#[tokio::test]
async fn stream_ends_denied_when_the_node_loses_its_standing() {
    let node = one().await;
    let client = node.client().await;
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    node.identity.send_replace(None);
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
    assert_eq!(code(client.jwt(&["a"], "").await), Code::PermissionDenied);
    node.stand();
    node.ready().await;
    assert!(client.x509().await.is_ok());
}

#[tokio::test]
async fn program_is_known_by_path_digest_user_and_groups() {
    let exe = std::env::current_exe().unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&exe).unwrap());
    let uid = rustix::process::geteuid().as_raw();
    let user = nix::unistd::User::from_uid(uid.into()).unwrap().unwrap().name;
    let selectors = [
        format!("unix:path:{}", Path::new(&exe).canonicalize().unwrap().display()),
        format!("unix:sha256:{}", hex::encode(digest)),
        format!("unix:user:{user}"),
        format!("unix:gid:{}", rustix::process::getegid().as_raw()),
    ];
    let selectors: Vec<_> = selectors.iter().map(String::as_str).collect();
    let node = Node::start(FakeCa::new(vec![entry("w", &selectors)], vec![])).await;
    assert!(node.client().await.x509().await.is_ok());
}

#[tokio::test]
async fn what_the_sdk_says_of_a_request_reaches_the_ca_and_a_named_request_has_a_token_of_its_own() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let node = Node::start(FakeCa::new(vec![], vec![class("a/b", &[&me()])])).await;
    let endpoint: Endpoint = format!("unix://{}", node.socket().display()).parse().unwrap();
    let client = WorkloadClient::connect(&endpoint);
    let began = Origin::NONE.with_request_id("order-17").unwrap().with_traceparent(parent).unwrap();
    client.with_origin(began.clone()).fetch_x509().await.unwrap();
    let named = Origin::NONE.with_request_id("order-18").unwrap();
    let traced = Origin::NONE.with_traceparent(parent).unwrap();
    for origin in [Origin::NONE, named.clone(), named.clone(), traced, Origin::NONE] {
        client.with_origin(origin).fetch_jwt(&["x"], None).await.unwrap();
    }
    // The first token serves whoever names no request of his own.
    assert_eq!(node.ca.look(|s| s.origins.clone()), [began, Origin::NONE, named.clone(), named]);
}

#[tokio::test]
async fn what_has_no_form_of_a_request_id_is_left_out_and_nobody_is_refused_for_it() {
    let node = Node::start(FakeCa::new(vec![entry("a", &[&me()])], vec![])).await;
    let mut request = with_header(JwtsvidRequest { audience: vec!["x".into()], ..JwtsvidRequest::default() });
    request.metadata_mut().insert("x-request-id", "a b".parse().unwrap());
    request.metadata_mut().insert("traceparent", "00-0-0-0".parse().unwrap());
    node.client().await.api().fetch_jwtsvid(request).await.unwrap();
    assert_eq!(node.ca.look(|s| s.origins.clone()), [Origin::NONE]);
}
