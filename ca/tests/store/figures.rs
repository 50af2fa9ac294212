//! Figures, not checks: `cargo nextest run -p chancery-ca --test store --run-ignored only figures --no-capture`.

use std::time::Instant;

use chancery_ca::store::{BeginInstance, Fact};
use futures_util::{StreamExt, stream};

use crate::{bench::Bench, sample};

/// Callers waiting at once.
const CALLERS: usize = 64;
/// Facts per figure.
const FACTS: usize = 3000;
/// So that none comes to its 256 instances.
const NODES: u8 = 12;

async fn measure(db: &Bench, what: &str, facts: impl Iterator<Item = Fact>) {
    let began = Instant::now();
    stream::iter(facts)
        .for_each_concurrent(CALLERS, |fact| async {
            db.done(fact).await;
        })
        .await;
    let rate = FACTS as f64 / began.elapsed().as_secs_f64();
    println!("{} {what}: {rate:.0}/s", if db.url.starts_with("postgres") { "postgres" } else { "sqlite" });
}

async fn figures(db: Bench) {
    for node in 1..=NODES {
        db.done(Fact::AdmitNode(sample::admission(node))).await;
    }
    db.done(Fact::CreateClass(sample::class("a"))).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    measure(&db, "RecordX509", (0..FACTS).map(|_| Fact::RecordX509(sample::svid(1, "e1")))).await;
    let begin = |n: usize| {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let node = 1 + (n % usize::from(NODES)) as u8;
        let mut fact = BeginInstance { spki_sha256: key, ..sample::begin(node, 1) };
        fact.instance.start_token = key;
        fact.instance.id = sample::id(&format!("/agent/a/01890a5d-ac96-774b-bcce-b302099{n:05x}"));
        Fact::BeginInstance(fact)
    };
    measure(&db, "BeginInstance", (0..FACTS).map(begin)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and checks nothing"]
async fn figures_on_sqlite() {
    figures(Bench::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seconds and checks nothing"]
async fn figures_on_postgres() {
    figures(Bench::postgres().await).await;
}
