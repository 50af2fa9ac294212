//! Instances from their first call to their end, with real processes.

use std::{fs, time::Duration};

use chancery_tests::{
    demo::agents::Agents,
    playground::Attest,
    process::{run, until},
};

use crate::support::{SOON, Stage, Workload, stage};

/// One node without proven hardware, and a class for the workload program that accepts it.
fn unproven() -> Stage {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    stage
}

fn explain(stage: &Stage, workload: &Workload) -> String {
    let machine = &stage.playground.machines[0];
    let (program, pid) = (stage.playground.bin.path("chancery-attestor"), workload.pid().to_string());
    let socket = machine.admin_socket.display().to_string();
    run(&program, &["explain", "--pid", &pid, "--socket", &socket, "--output", "json"]).unwrap()
}

#[test]
fn an_instance_begins_with_the_first_call_and_ends_with_its_process() {
    let stage = unproven();
    let (mut first, mut second) = (stage.workload(0), stage.workload(0));
    assert_eq!(stage.instances(), []);
    let id = first.await_x509();
    assert!(id.starts_with("spiffe://playground.test/agent/shop/cart/"), "{id}");
    assert_eq!(stage.instances(), [(id.clone(), "good".into())]);
    assert!(explain(&stage, &first).contains(&id));

    let other = second.await_x509();
    assert_ne!(other, id);
    assert_eq!(first.x509(), Ok(id.clone()), "a second call begins nothing");
    let child = first.child_x509().unwrap();
    assert!(![&id, &other].contains(&&child), "a child process is an instance of its own");

    stage.wait_for_standing(&child, "ended");
    drop(first);
    stage.wait_for_standing(&id, "ended");
    assert_eq!(stage.standing(&other), "good");
}

#[test]
fn a_process_keeps_its_id_through_exec_and_is_refused_as_a_program_that_no_class_knows() {
    let stage = unproven();
    let program = stage.playground.bin.path("workload");
    let stranger = stage.playground.dir.join("stranger");
    fs::copy(&program, &stranger).unwrap();
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    workload.exec(&program);
    assert_eq!(workload.x509(), Ok(id.clone()));
    workload.exec(&stranger);
    assert!(workload.x509().unwrap_err().contains("no identity issued"));
    workload.exec(&program);
    assert_eq!(workload.x509(), Ok(id), "it is the same process");
}

#[test]
fn a_process_of_two_classes_is_refused_and_explain_names_both() {
    let stage = unproven();
    let mut workload = stage.workload(0);
    workload.await_x509();
    stage.unproven_class("shop/till");
    let mut late = stage.workload(0);
    let words = late.await_refusal();
    assert!(words.contains("shop/cart") && words.contains("shop/till"), "{words}");
    // The CA may have refused before the attestor's own copy of the classes was new.
    until(SOON, || {
        let told: serde_json::Value = serde_json::from_str(&explain(&stage, &late)).unwrap();
        let verdict = told["verdict"].as_str().unwrap().to_owned();
        let named = verdict.starts_with("refused") && verdict.contains("shop/cart, shop/till");
        if named { Ok(()) } else { Err(verdict) }
    })
    .unwrap();
    stage.ca(&["class", "delete", "shop/till"]);
    late.await_x509();
}

#[test]
fn a_class_begins_nothing_on_an_unproven_node_unless_it_says_so() {
    let stage = stage(Attest::JoinToken, |_| {});
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "shop/cart", "workload", &[]);
    let words = stage.workload(0).await_refusal();
    println!("a class without the flag: {words}");
    until(SOON, || match stage.workload(0).x509() {
        Err(words) if words.contains("unproven") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    assert_eq!(stage.instances(), []);
    stage.ca(&["class", "update", "shop/cart", "--allow-unproven-nodes"]);
    stage.workload(0).await_x509();
    assert!(stage.ca(&["audit", "list"]).contains("\"allow_unproven_nodes\":true"));
}

#[test]
fn an_instance_that_an_operator_ends_is_refused_at_its_next_rotation_and_never_comes_back() {
    let stage = stage(Attest::JoinToken, |o| o.lifetimes.instance_ttl = Some("12s".into()));
    stage.unproven_class("shop/cart");
    let (mut ended, mut other) = (stage.workload(0), stage.workload(0));
    let (id, kept) = (ended.await_x509(), other.await_x509());
    stage.ca(&["instance", "end", &id]);
    println!("after instance end: {}", ended.await_refusal());
    assert_ne!(stage.standing(&id), "good");
    assert!(ended.x509().is_err(), "the same process stays refused");
    assert_eq!(other.x509(), Ok(kept));
    assert_eq!(stage.instances().len(), 2);
}

#[test]
fn a_banned_node_serves_nobody_until_it_is_evicted_and_attests_again() {
    let mut stage = stage(Attest::Tpm, |_| {});
    let fleet = stage.fleet();
    stage.class(&fleet, "shop/cart", "workload", &[]);
    let node = stage.playground.machines[0].spiffe_id.clone();
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    stage.ca(&["node", "ban", &node]);
    assert_ne!(stage.standing(&id), "good", "the ban ends its instances at once");
    println!("after node ban: {}", workload.await_refusal());
    let socket = stage.playground.machines[0].workload_socket.display().to_string();
    let program = stage.playground.bin.path("chancery-attestor");
    assert!(run(&program, &["healthcheck", "--socket", &socket]).is_err());
    assert!(stage.workload(0).x509().is_err());

    stage.ca(&["node", "evict", &node]);
    // A banned node asks every few minutes; whoever lifts the ban may restart it.
    let machine = &mut stage.playground.machines[0];
    machine.process().unwrap().stop();
    machine.start().unwrap();
    machine.wait_until_serving().unwrap();
    let fresh = until(Duration::from_secs(60), || stage.workload(0).x509()).unwrap();
    assert_ne!(fresh, id);
    assert_ne!(stage.standing(&id), "good", "what a ban ended stays ended");
}

#[test]
fn identities_and_calls_go_on_while_the_ca_is_away() {
    let mut stage = unproven();
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "shop/agent", "demo-agent", &["--allow-unproven-nodes"]);
    let mut agents = Agents((0..2).map(|_| stage.agent(0)).collect());
    agents.introduce().unwrap();
    let mut workload = stage.workload(0);
    let id = workload.await_x509();

    stage.playground.authority.process().stop();
    let calls = || agents.0.iter().flat_map(|a| a.seen().peers.into_values()).map(|c| c.calls).sum::<u64>();
    let before = calls();
    assert_eq!(workload.x509(), Ok(id.clone()));
    assert!(stage.workload(0).x509().is_err(), "nobody new begins without the CA");
    until(SOON, || if calls() >= before + 100 { Ok(()) } else { Err("no calls".into()) }).unwrap();
    agents.check_calls().unwrap();
    assert_eq!(workload.x509(), Ok(id.clone()));

    stage.playground.authority.restart().unwrap();
    stage.workload(0).await_x509();
    assert_eq!(workload.x509(), Ok(id));
    agents.check_calls().unwrap();
}

/// The largest number of live instances of one node (`MAX_LIVE_PER_NODE`).
const MOST: usize = 256;

#[test]
fn a_node_runs_at_most_256_instances() {
    let stage = unproven();
    let mut live: Vec<_> = (0..MOST).map(|_| stage.workload(0)).collect();
    // All ask at once; each then waits for its own answer.
    let ids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
        let parts: Vec<_> = live
            .chunks_mut(MOST / 8)
            .map(|part| scope.spawn(|| part.iter_mut().map(Workload::await_x509).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), MOST);
    let mut late = stage.workload(0);
    println!("instance {}: {}", MOST + 1, late.x509().unwrap_err());
    drop(live.pop());
    late.await_x509();
}
