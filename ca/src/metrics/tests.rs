//! The series of a CA exist, and move with what they name.

use std::time::Duration;

use chancery_core::reason::Reason;
use prometheus_client::encoding::text::encode;

use super::*;
use crate::{
    enroll,
    gate::Caller,
    issue,
    sample::{self, domain},
};

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

fn of(family: &Counters, labels: &[(&'static str, &str)]) -> u64 {
    family.get_or_create(&labels.iter().map(|(label, value)| (*label, (*value).to_string())).collect()).get()
}

#[test]
fn ca_has_its_series_from_the_start() {
    let mut registry = Registry::default();
    let _metrics = Metrics::register(&mut registry);
    let text = shown(&registry);
    let series = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    // Those of tokens come with the first token.
    let series: Vec<_> = series.filter(|name| !name.starts_with("chancery_ca_token_")).collect();
    assert_eq!(series.len(), 33, "{series:?}");
    // A family without a row is shown by nothing.
    for name in series.iter().map(|line| line.split(' ').next().unwrap()) {
        let zero = |line: &str| line.starts_with(name) && (line.ends_with(" 0") || line.ends_with(" 0.0"));
        assert!(text.lines().any(zero), "{name} has no row");
    }
    assert!(series.iter().all(|name| name.starts_with("chancery_ca_")), "{series:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_move_with_calls_handshakes_refusals_and_svids() {
    let dir = tempfile::tempdir().unwrap();
    let ca = sample::running(dir.path()).await;
    let metrics = &ca.state.metrics;
    // The self-test at start knocked at every door.
    assert!(of(&metrics.handshakes, &[("result", "done")]) > 0);
    let mut registry = Registry::default();
    registry.register("rpcs", "Calls", metrics.rpcs.clone());
    assert!(shown(&registry).contains("code=\"7\""), "refused calls are counted");
    let (id, audience) = (format!("{}/w", domain().id()).parse().unwrap(), ["a".to_string()]);
    let before = of(&metrics.svids, &[("kind", "jwt")]);
    issue::mint_jwt(&ca.state, &Caller::Anyone, &id, &audience, 0).await.unwrap();
    assert_eq!(of(&metrics.svids, &[("kind", "jwt")]), before + 1);
    let Err(denied) = enroll::attestor(&ca.state, "teapot") else { panic!("unknown type") };
    enroll::record(&ca.state, "teapot", enroll::Suspect::default(), &denied).await;
    assert_eq!(of(&metrics.refusals, &[("reason", Reason::UnknownType.code())]), 1);
    assert_eq!(of(&metrics.attestations, &[("type", "teapot"), ("verdict", "denied")]), 1);
    let set = async {
        let x509 = vec![("kind", "x509".to_string())];
        while metrics.authority_ends.get_or_create(&x509).get() == 0 || metrics.event_number.get() < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), set).await.expect("the gauges follow within a second");
    assert!(metrics.bundle_sequence.get() > 0);
    ca.state.shutdown.begin();
    ca.stopped().await.unwrap();
}
