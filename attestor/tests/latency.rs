//! How long a cached fetch takes, against an echo on the same socket. Prints; `make bench` judges a release build.

mod support;

use std::time::Instant;

use support::{Client, FakeCa, Node, entry};

const CALLS: usize = 2000;

fn percentile(times: &mut [u128], of: usize) -> u128 {
    times.sort_unstable();
    times[times.len() * of / 100]
}

async fn measure<F: Future<Output = ()>>(call: impl Fn() -> F) -> (u128, u128) {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        call().await;
        times.push(began.elapsed().as_micros());
    }
    (percentile(&mut times, 50), percentile(&mut times, 99))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn cached_fetch_against_an_echo() {
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let node = Node::start(FakeCa::new(vec![entry("w", &[&uid])], vec![])).await;
    let client: Client = node.client().await;
    client.x509().await.unwrap();
    let echo = measure(|| async { assert!(client.serving().await) }).await;
    let fetch = measure(|| async { drop(client.x509().await.unwrap()) }).await;
    let jwt = measure(|| async { drop(client.jwt(&["a"], "").await.unwrap()) }).await;
    println!(
        "echo p50 {} p99 {} us; x509 p50 {} p99 {} us; jwt p50 {} p99 {} us",
        echo.0, echo.1, fetch.0, fetch.1, jwt.0, jwt.1
    );
}
