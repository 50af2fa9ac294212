//! The examples do what they show.
#![cfg(feature = "client")]

mod support;

#[path = "../examples/axum.rs"]
#[allow(dead_code, reason = "its `main` is for the example")]
mod axum_example;
#[path = "../examples/grpc.rs"]
#[allow(dead_code, reason = "its `main` is for the example")]
mod grpc_example;

use std::collections::HashMap;

use chancery_proto::workload::X509svidResponse;
use chancery_sdk::Source;
use support::{
    api::{Fake, Says},
    pki::Authority,
};

async fn granted() -> (Fake, Source) {
    let svids = vec![Authority::new("example.org").message("/w", "")];
    let fake = Fake::start();
    fake.x509.send_replace(Says::Message(X509svidResponse { svids, crl: vec![], federated_bundles: HashMap::new() }));
    let source = fake.source().await;
    (fake, source)
}

#[tokio::test]
async fn the_axum_example_serves_and_calls() {
    let (_fake, source) = granted().await;
    axum_example::demo(source).await.unwrap();
}

#[tokio::test]
async fn the_grpc_example_serves_and_calls() {
    let (_fake, source) = granted().await;
    grpc_example::demo(source).await.unwrap();
}
