//! Every series of the attestor exists, and moves with what it names.

mod support;

use std::sync::Arc;

use chancery_attestor::{api::Verifiers, enroll::EnrolMetrics};
use prometheus_client::{encoding::text::encode, registry::Registry};
use support::{FakeCa, Node, class, entry};

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// The value of a row, given as it is written before the space; 0 where there is none.
fn value(registry: &Registry, row: &str) -> f64 {
    let text = shown(registry);
    let found = text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(name, _)| *name == row);
    found.map_or(0.0, |(_, value)| value.parse().unwrap())
}

#[test]
fn attestor_has_at_least_ten_series_with_its_prefix() {
    let mut registry = Registry::default();
    drop(EnrolMetrics::register(&mut registry));
    drop(chancery_attestor::metrics::WorkloadMetrics::register(&mut registry));
    let text = shown(&registry);
    let series: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(series.len() >= 10, "{series:?}");
    assert!(series.iter().all(|name| name.starts_with("chancery_attestor_")), "{series:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_move_with_calls_syncs_and_identities() {
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let node = Node::start(FakeCa::new(vec![entry("w", &[&uid])], vec![])).await;
    let client = node.client().await;
    client.x509().await.unwrap();
    client.jwt(&["a"], "").await.unwrap();
    client.jwt(&["a"], "").await.unwrap();
    assert!(client.jwt(&[], "").await.is_err());
    let registry = &node.registry;
    let call = |method: &str, code: &str| {
        let row = format!("chancery_attestor_workload_calls_total{{method=\"{method}\",code=\"{code}\"}}");
        value(registry, &row)
    };
    assert_eq!(call("FetchX509SVID", "OK") as i64, 1);
    assert_eq!(call("FetchJWTSVID", "OK") as i64, 2);
    assert_eq!(call("FetchJWTSVID", "InvalidArgument") as i64, 1);
    let took = "chancery_attestor_workload_call_duration_seconds_count{method=\"FetchJWTSVID\"}";
    assert_eq!(value(registry, took) as i64, 3);
    // The second token is the first one again.
    assert_eq!(value(registry, "chancery_attestor_svids_total{kind=\"jwt\"}") as i64, 1);
    assert_eq!(value(registry, "chancery_attestor_svids_total{kind=\"entry\"}") as i64, 1);
    assert!(value(registry, "chancery_attestor_syncs_total{verdict=\"ok\"}") >= 1.0);
    assert!(value(registry, "chancery_attestor_last_sync_time_seconds") > 1e9);
    assert!(value(registry, "chancery_attestor_workload_attestations_total{verdict=\"known\"}") >= 3.0);
    node.retry(|| async { value(registry, "chancery_attestor_identities") as i64 == 1 }).await;
    node.retry(|| async { value(registry, "chancery_attestor_open_streams") as i64 == 0 }).await;
}

fn budget(registry: &Registry, ends: &str) -> Option<i64> {
    let row = format!("chancery_attestor_outage_budget_seconds{{ends=\"{ends}\"}} ");
    shown(registry).lines().find_map(|line| Some(line.strip_prefix(&row)?.parse().unwrap()))
}

/// What is in use counts, what nobody asked for does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outage_budget_is_the_first_end_of_what_is_in_use() {
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let ca = FakeCa::new(vec![entry("w", &[&uid]), entry("x", &["unix:uid:4000000000"])], vec![class("c", &[&uid])]);
    ca.change(|s| s.ttl = 600);
    let node = Node::start(Arc::clone(&ca)).await;
    assert_eq!(budget(&node.registry, "entry_svid"), None, "no process has asked");
    assert_eq!(budget(&node.registry, "jwt_svid"), None);
    assert!((3500..=3600).contains(&budget(&node.registry, "node_svid").unwrap()));
    assert!(budget(&node.registry, "trust_bundle").unwrap() > 86_400);
    let client = node.client().await;
    client.x509().await.unwrap();
    client.jwt(&["a"], "").await.unwrap();
    for ends in ["entry_svid", "instance_svid"] {
        let left = budget(&node.registry, ends).unwrap();
        assert!((500..=600).contains(&left), "{ends}: {left}");
    }
    assert!((200..=300).contains(&budget(&node.registry, "jwt_svid").unwrap()));
    let state = |state: &str| value(&node.registry, &format!("chancery_attestor_servers{{state=\"{state}\"}}")) as i64;
    assert_eq!((state("idle"), state("in_use"), state("failed"), state("refusing")), (2, 0, 0, 0));
    ca.servers.connected(0);
    assert_eq!((state("idle"), state("in_use")), (1, 1));
    assert_eq!(value(&node.registry, "chancery_attestor_server_connections_total") as i64, 1);
    node.identity.send_replace(None);
    assert_eq!(budget(&node.registry, "node_svid"), None, "nothing is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_counted_while_their_processes_live() {
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let node = Node::start(FakeCa::new(vec![], vec![class("c", &[&uid])])).await;
    node.client().await.x509().await.unwrap();
    assert_eq!(value(&node.registry, "chancery_attestor_instances") as i64, 1);
    assert_eq!(value(&node.registry, "chancery_attestor_svids_total{kind=\"instance\"}") as i64, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_of_an_attestor_that_is_not_attested_exits_1() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let node = Node::bare(FakeCa::new(vec![], vec![]), dir, Verifiers::Entitled).await;
    let check = || async {
        let program = env!("CARGO_BIN_EXE_chancery-attestor");
        let mut asked = tokio::process::Command::new(program);
        asked.arg("healthcheck").arg("--socket").arg(node.socket()).output().await.unwrap()
    };
    let answer = check().await;
    assert_eq!(answer.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("not serving"), "{answer:?}");
    node.stand();
    node.ready().await;
    assert_eq!(check().await.status.code(), Some(0));
}
