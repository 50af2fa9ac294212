//! Detectors over a real database: what a node does becomes one proposal, what strangers do becomes none.

use std::{net::IpAddr, time::Duration};

use chancery_core::detect::Verdict;
use chancery_proto::{
    chancery::node::v1::{
        BeginRequest, NewJwtRequest, ProcessFacts, ReconcileRequest, RenewRequest, node_server::Node as _,
    },
    spire::api::types,
};
use tonic::Request;

use super::{
    kill::{begun, order},
    *,
};
use crate::{
    detect::{self, Whose},
    grpc::node::Service,
    peer::Peer,
    proposals::{self, Proposal, Which},
};

fn place(n: u8) -> Option<IpAddr> {
    Some([192, 0, 2, n].into())
}

/// A token for the instance, as its node's call brings it to the door.
async fn token(world: &World, node: &Node, id: &SpiffeId, start: u8, from: Option<IpAddr>) -> Result<(), Problem> {
    let (state, node) = (&world.state, Arc::new(node.clone()));
    let (audience, token) = (["a".to_owned()], [start; 32]);
    let work = instance::jwt(state, &node, id, &token, &audience, &Origin::NONE);
    detect::watched(state, &node, Whose::Instance(id), from, work).await.map(drop)
}

async fn open(state: &State) -> Vec<Proposal> {
    proposals::list(state, (-1, -1), true, 100).await.unwrap()
}

/// Waits for the commits until so many are open.
async fn opened(state: &State, count: usize) -> Vec<Proposal> {
    let mut last = state.store.last_number();
    let found = async {
        loop {
            last.mark_unchanged();
            let open = open(state).await;
            if open.len() >= count {
                return open;
            }
            last.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("it is written")
}

#[tokio::test]
async fn an_instance_whose_node_calls_from_two_places_by_turns_becomes_one_proposal() {
    let world = world().await;
    let state = &world.state;
    detect::start(state);
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (moved, copied) = (begun(&world, 1).await, begun(&world, 2).await);
    let other = admit(state, "/spire/agent/tpm/bb", "tpm").await;
    for (from, start, id) in [(1, 1, &moved.id), (2, 1, &moved.id), (2, 1, &moved.id)] {
        token(&world, &world.node, id, start, place(from)).await.unwrap();
    }
    // Somebody else's node says that it acts for it, from many places: that is nothing.
    for from in [7, 8, 7, 8, 7] {
        token(&world, &other, &moved.id, 1, place(from)).await.unwrap_err();
        detect::reported(state, &other, &[[1; 32], [2; 32]], place(from));
    }
    token(&world, &world.node, &copied.id, 2, place(1)).await.unwrap();
    detect::reported(state, &world.node, &[[2; 32]], place(9));
    token(&world, &world.node, &copied.id, 2, place(1)).await.unwrap();
    let [one] = &opened(state, 1).await[..] else { panic!("one") };
    assert_eq!((one.instance.as_str(), one.detector.as_str()), (copied.id.as_str(), "two_places"));
    assert_eq!((one.places.as_str(), one.hold.as_str()), ("192.0.2.1,192.0.2.9", ""));
    for from in [9, 1, 9, 1] {
        token(&world, &world.node, &copied.id, 2, place(from)).await.unwrap();
    }
    assert_eq!(recorded(state, "hold.proposed").await, 1);
    let (which, began) = (Which { epoch: None, number: one.number }, Some(state.now().plus(60)));
    let future = proposals::review(state, which, Verdict::Incident, began, order()).await;
    assert!(matches!(future, Err(Problem::Invalid(_))), "{future:?}");
    proposals::review(state, which, Verdict::FalseAlarm, None, order()).await.unwrap();
    let again = proposals::review(state, which, Verdict::Incident, None, order()).await;
    assert!(matches!(again, Err(Problem::Precondition(_))), "{again:?}");
    assert_eq!(open(state).await, []);
}

#[tokio::test]
async fn a_burst_of_denials_holds_where_that_is_configured_and_strangers_and_held_ones_raise_none() {
    let world = world_with("[detectors]\ndenials = \"hold\"\ndenials_count = 5\nhold_for = \"10m\"").await;
    let state = &world.state;
    detect::start(state);
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let target = begun(&world, 1).await;
    let neighbour = begun(&world, 2).await;
    for start in 3..=20 {
        begun(&world, start).await;
    }
    let other = admit(state, "/spire/agent/tpm/bb", "tpm").await;
    for _ in 0..20 {
        token(&world, &other, &target.id, 1, place(3)).await.unwrap_err();
    }
    for _ in 0..4 {
        token(&world, &world.node, &target.id, 99, place(1)).await.unwrap_err();
    }
    assert_eq!(recorded(state, "hold.proposed").await, 0);
    token(&world, &world.node, &target.id, 99, place(1)).await.unwrap_err();
    let [one] = &opened(state, 1).await[..] else { panic!("one") };
    assert_eq!(
        (one.instance.as_str(), one.detector.as_str(), one.hold.as_str()),
        (target.id.as_str(), "denials", "placed")
    );
    assert_eq!(one.places, "");
    // What is held asks in vain as often as it likes; others are given what they ask for.
    for _ in 0..10 {
        let held = token(&world, &world.node, &target.id, 1, place(1)).await;
        assert!(matches!(held, Err(Problem::Held(_))), "{held:?}");
        token(&world, &world.node, &neighbour.id, 2, place(1)).await.unwrap();
    }
    assert_eq!(instance::get(state, &target.id).await.unwrap().standing, Standing::Good);
    assert_eq!((recorded(state, "hold.proposed").await, recorded(state, "instance.held").await), (1, 1));
    for terminal in ["instance.ended", "instance.revoked", "class.closed", "node.banned", "node.failed"] {
        assert_eq!(recorded(state, terminal).await, 0, "{terminal}");
    }
}

/// A call at the door for nodes, as the accept loop and the gate let it in.
fn call<T>(node: &Arc<Node>, from: u8, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let peer = Peer { source: place(from), ..Peer::local(LocalPeer { uid: 0, pid: 0 }) };
    request.extensions_mut().insert(Arc::new(peer));
    request.extensions_mut().insert(Caller::Node(Arc::clone(node)));
    request
}

fn wants_token(id: &SpiffeId, start: u8) -> NewJwtRequest {
    NewJwtRequest { instance_id: id.to_string(), start_token: vec![start; 32], audience: vec!["a".into()] }
}

/// Asks from one address, then another thing from another address, then from the first again.
async fn there_and_back<T>(
    door: &Service,
    world: &World,
    run: (&SpiffeId, u8),
    there: impl Future<Output = Result<T, tonic::Status>>,
) {
    let back = || door.new_jwt(call(&world.node, 1, wants_token(run.0, run.1)));
    back().await.unwrap();
    there.await.unwrap();
    back().await.unwrap();
}

#[tokio::test]
async fn every_call_for_an_instance_at_the_door_for_nodes_says_where_it_came_from() {
    let world = world().await;
    let (state, node) = (&world.state, &world.node);
    detect::start(state);
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (door, key) = (Service::new(Arc::clone(state)), KeyPair::generate().unwrap());
    let first = instance::begin(state, node, &process(1), &csr(&key)).await.unwrap();
    let rest = [begun(&world, 2).await, begun(&world, 3).await, begun(&world, 4).await];
    let ids = [&first.id, &rest[0].id, &rest[1].id, &rest[2].id];

    let selector = |value: &str| types::Selector { r#type: "unix".into(), value: value.into() };
    let again = BeginRequest {
        class_name: "refund".into(),
        selectors: vec![selector("uid:1"), selector("gid:1")],
        start_token: vec![1; 32],
        csr: csr(&key),
        process: Some(ProcessFacts { pid_proof: "peer-pidfd".into(), ..ProcessFacts::default() }),
    };
    let csr = csr(&KeyPair::generate().unwrap());
    let renewal = RenewRequest { instance_id: ids[1].to_string(), start_token: vec![2; 32], csr };
    there_and_back(&door, &world, (ids[0], 1), door.begin(call(node, 9, again))).await;
    there_and_back(&door, &world, (ids[1], 2), door.renew(call(node, 9, renewal))).await;
    there_and_back(&door, &world, (ids[2], 3), door.new_jwt(call(node, 9, wants_token(ids[2], 3)))).await;
    assert_eq!(opened(state, 3).await.len(), 3);
    let live_start_tokens = (1..=4).map(|start| vec![start; 32]).collect();
    let report = ReconcileRequest { boot: vec![1; 32], live_start_tokens };
    there_and_back(&door, &world, (ids[3], 4), door.reconcile(call(node, 9, report))).await;

    let open = opened(state, 4).await;
    assert_eq!(open.iter().map(|one| one.instance.as_str()).collect::<Vec<_>>(), ids.map(SpiffeId::as_str));
    assert!(open.iter().all(|one| one.places == "192.0.2.1,192.0.2.9" && one.detector == "two_places"), "{open:?}");
}

#[tokio::test]
async fn denials_at_the_door_for_nodes_become_a_proposal() {
    let world = world().await;
    let state = &world.state;
    detect::start(state);
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (door, target) = (Service::new(Arc::clone(state)), begun(&world, 1).await);
    // Ten by default: some by each call that is for an instance.
    for _ in 0..5 {
        let renewal =
            RenewRequest { instance_id: target.id.to_string(), start_token: vec![1; 32], csr: b"none".to_vec() };
        door.renew(call(&world.node, 1, renewal)).await.unwrap_err();
        assert_eq!(recorded(state, "hold.proposed").await, 0);
        door.new_jwt(call(&world.node, 1, wants_token(&target.id, 99))).await.unwrap_err();
    }
    let [one] = &opened(state, 1).await[..] else { panic!("one") };
    assert_eq!((one.instance.as_str(), one.detector.as_str()), (target.id.as_str(), "denials"));
    assert!(one.evidence.contains("\"count\":10"), "{}", one.evidence);
}
