//! The request that somebody made, in the record of what was issued for it.

use serde_json::Value;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn newest(world: &World, kind: &str) -> Value {
    let rows = world.state.store.record(0, -1, 10_000).await.unwrap();
    let row = rows.into_iter().rev().find(|row| row.kind == kind).unwrap();
    serde_json::from_slice::<Value>(&row.bytes).unwrap()["fields"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_issued_for_a_request_names_it_and_nothing_else_does() {
    let world = world().await;
    let origin = Origin::NONE.with_request_id("order-17").unwrap().with_traceparent(PARENT).unwrap();
    let asked = Arc::new(Process { origin: origin.clone(), ..(*process(1)).clone() });
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let begun = instance::begin(&world.state, &world.node, &asked, &csr(&key)).await.unwrap();
    let fields = newest(&world, "instance.begun").await;
    assert_eq!((fields["request_id"].as_str(), fields["traceparent"].as_str()), (Some("order-17"), Some(PARENT)));
    let (state, node) = (&world.state, &world.node);
    instance::jwt(state, node, &begun.id, &[1; 32], &["a".into()], &origin).await.unwrap();
    assert_eq!(newest(&world, "jwt.issued").await["request_id"], "order-17");
    instance::jwt(state, node, &begun.id, &[1; 32], &["a".into()], &Origin::NONE).await.unwrap();
    assert!(newest(&world, "jwt.issued").await.get("request_id").is_none());
}
