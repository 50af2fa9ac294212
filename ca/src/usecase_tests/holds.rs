//! Holds over a real database: whoever asks, on whichever server, gets nothing until the end; then as before.

use chancery_core::instance::{HoldSpan, HoldSpanError};

use super::{
    kill::{begun, deaf, order},
    *,
};
use crate::{
    hold,
    problem::Problem::{Held, Invalid, NotFound, Precondition},
    store::Order,
};

fn span(secs: i64) -> HoldSpan {
    HoldSpan::new(secs).unwrap()
}

async fn token(state: &Arc<State>, world: &World, of: &X509, start: u8) -> Result<(), Problem> {
    let audience = ["a".to_owned()];
    instance::jwt(state, &world.node, &of.id, &[start; 32], &audience, &Origin::NONE).await.map(drop)
}

async fn renewed(state: &Arc<State>, world: &World, of: &X509, start: u8) -> Result<(), Problem> {
    let key = KeyPair::generate().unwrap();
    instance::renew(state, &world.node, &of.id, &[start; 32], &csr(&key)).await.map(drop)
}

fn is_held(answer: &Result<(), Problem>) -> bool {
    matches!(answer, Err(Held(text)) if text.starts_with("INSTANCE_HELD: ") && text.contains("until"))
}

#[tokio::test]
async fn a_held_instance_gets_nothing_others_do_and_its_end_needs_nobody() {
    let world = world().await;
    let state = &world.state;
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (held, other) = (begun(&world, 1).await, begun(&world, 2).await);
    let until = hold::place(state, held.id.clone(), span(2), order()).await.unwrap();
    let answers = [renewed(state, &world, &held, 1).await, token(state, &world, &held, 1).await];
    assert!(answers.iter().all(is_held), "{answers:?}");
    renewed(state, &world, &other, 2).await.unwrap();
    begun(&world, 3).await;
    let shown = instance::get(state, &held.id).await.unwrap();
    assert_eq!((shown.standing, shown.held_until), (Standing::Good, Some(until)));
    let [listed] = &hold::list(state, "", 10).await.unwrap()[..] else { panic!("one") };
    assert_eq!((listed.instance.as_str(), listed.until), (held.id.as_str(), until));
    // The end itself is waited for.
    while state.now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    renewed(state, &world, &held, 1).await.unwrap();
    token(state, &world, &held, 1).await.unwrap();
    assert_eq!(recorded(state, "instance.released").await, 0);
}

/// The memory of the other server says yes; the committing transaction does not. And the other way round after the release.
#[tokio::test]
async fn a_server_that_was_told_nothing_releases_nothing_while_held_and_at_once_after_the_release() {
    let (world, dir) = (world().await, tempfile::tempdir().unwrap());
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (first, second) = (begun(&world, 1).await, begun(&world, 2).await);
    let b = deaf(&world, &dir).await;
    let issued = async || recorded(&world.state, "instance.renewed").await + recorded(&world.state, "jwt.issued").await;
    let before = issued().await;
    for id in [&first.id, &second.id] {
        hold::place(&world.state, id.clone(), span(900), order()).await.unwrap();
    }
    let knows =
        |id: &SpiffeId| b.view.look(|registry| registry.instance(id).unwrap().instance.held_until.is_some()).unwrap();
    assert!(!knows(&first.id), "it has not looked");
    let answer = renewed(&b, &world, &first, 1).await;
    assert!(is_held(&answer), "{answer:?}");
    let answer = token(&b, &world, &second, 2).await;
    assert!(is_held(&answer), "{answer:?}");
    assert_eq!(issued().await, before, "nothing was recorded as issued, so nothing was released");
    assert!(knows(&first.id), "a refusal has it look");
    hold::release(&world.state, first.id.clone(), order()).await.unwrap();
    assert!(knows(&first.id), "it was not told");
    token(&b, &world, &first, 1).await.unwrap();
    let answer = token(&b, &world, &second, 2).await;
    assert!(is_held(&answer), "{answer:?}");
}

#[tokio::test]
async fn an_operator_is_told_what_makes_no_sense() {
    let world = world().await;
    let state = &world.state;
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let first = begun(&world, 1).await;
    let nobody = id("/agent/refund/0190f5d2-0000-7000-8000-000000000000");
    let silent = || Order { reason: String::new(), ..order() };
    assert!(matches!(hold::place(state, first.id.clone(), span(60), silent()).await, Err(Invalid(_))));
    assert!(matches!(hold::release(state, first.id.clone(), silent()).await, Err(Invalid(_))));
    assert!(matches!(hold::place(state, nobody.clone(), span(60), order()).await, Err(NotFound(_))));
    assert!(matches!(hold::release(state, nobody, order()).await, Err(NotFound(_))));
    instance::end_by_operator(state, &first.id).await.unwrap();
    assert!(matches!(hold::place(state, first.id.clone(), span(60), order()).await, Err(Precondition(_))));
    assert_eq!(HoldSpan::new(901), Err(HoldSpanError { secs: 901 }));
}
