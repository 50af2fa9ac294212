use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use chancery_sdk::id::SpiffeId;

use super::{samples::*, *};
use crate::class::{Class, ClassName, NodeProof};

/// A fault laid over a valid draft.
type Spoil = fn(&mut Draft);

#[test]
fn each_rule_refuses_its_own_fault() {
    let cases: &[(&str, Spoil)] = &[
        ("no spiffe_id", |d| d.spiffe_id = None),
        ("no parent_id", |d| d.parent_id = None),
        ("spiffe_id reserved for nodes", |d| d.spiffe_id = Some(id("/spire/agent/x"))),
        ("spiffe_id reserved for instances", |d| d.spiffe_id = Some(id("/agent/finance/x"))),
        ("spiffe_id without path", |d| d.spiffe_id = Some(id(""))),
        ("foreign spiffe_id", |d| d.spiffe_id = SpiffeId::parse("spiffe://other/x").ok()),
        ("foreign parent_id", |d| d.parent_id = SpiffeId::parse("spiffe://other/x").ok()),
        ("parent_id without path", |d| d.parent_id = Some(id(""))),
        ("no selectors", |d| d.selectors.clear()),
        ("65 selectors", |d| d.selectors = (0..65).map(|n| format!("a:{n}").parse().unwrap()).collect()),
        ("negative X.509 ttl", |d| d.x509_svid_ttl = -1),
        ("negative JWT ttl", |d| d.jwt_svid_ttl = -1),
        ("ttl beyond 32 bits", |d| d.jwt_svid_ttl = 1 << 31),
        ("negative expiry", |d| d.expires_at = -1),
        ("bad DNS name", |d| d.dns_names = vec!["a_b".into()]),
        ("65 DNS names", |d| d.dns_names = vec!["a".into(); 65]),
        ("federates with itself", |d| d.federates_with = vec![domain()]),
        ("store_svid of two types", |d| {
            d.store_svid = true;
            d.selectors = selectors(&["a:1", "b:1"]);
        }),
        ("store_svid without prefetch", |d| {
            d.store_svid = true;
            d.disable_x509_svid_prefetch = true;
        }),
        ("entry ID with a slash", |d| d.id = "a/b".into()),
        ("entry ID of 256 bytes", |d| d.id = "a".repeat(256)),
    ];
    for (fault, spoil) in cases {
        let mut bad = draft();
        spoil(&mut bad);
        let result = check(bad, Mask::ALL, &domain()).and_then(|c| c.create("e1", UnixTime(1)));
        assert!(result.is_err(), "{fault}");
    }
    assert!(check(draft(), Mask::ALL, &domain()).unwrap().create("e1", UnixTime(1)).is_ok());
}

#[test]
fn wa_71_hint_of_1025_bytes_is_refused_and_1024_pass() {
    let with_hint = |len: usize| check(Draft { hint: "h".repeat(len), ..draft() }, Mask::ALL, &domain());
    assert!(with_hint(1024).is_ok());
    assert_eq!(with_hint(1025).unwrap_err(), EntryError::HintTooLong(1025));
}

#[test]
fn wa_72_hint_is_free_text() {
    assert!(check(Draft { hint: "für die Bank ✓".into(), ..draft() }, Mask::ALL, &domain()).is_ok());
}

#[test]
fn id_24_entry_for_an_id_of_2049_bytes_cannot_be_written_down() {
    let path = |len: usize| format!("/{}", "a".repeat(len));
    let room = chancery_sdk::id::MAX_ID_BYTES - "spiffe://td/".len();
    assert!(SpiffeId::from_path(&domain(), &path(room)).is_ok());
    assert!(SpiffeId::from_path(&domain(), &path(room + 1)).is_err());
}

#[test]
fn parent_may_be_reserved_and_need_not_exist() {
    for parent in ["/spire/server", "/spire/agent/join_token/x", "/nobody"] {
        assert!(check(Draft { parent_id: Some(id(parent)), ..draft() }, Mask::ALL, &domain()).is_ok(), "{parent}");
    }
}

#[test]
fn update_changes_only_masked_fields_and_grows_the_revision() {
    let entry = entry("e1", "/spire/server", "/db", &["a:1"]);
    let none = Mask { hint: true, ..Mask::NONE };
    let change = Draft { hint: "new".into(), selectors: selectors(&["b:2"]), ..draft() };
    let changed = check(change, none, &domain()).unwrap().apply(&entry);
    assert_eq!(changed, Entry { hint: "new".into(), revision: 1, ..entry.clone() });
    let same = check(draft(), Mask::NONE, &domain()).unwrap().apply(&changed);
    assert_eq!(same.revision, 2);
}

#[test]
fn update_checks_only_masked_fields() {
    let bad = Draft { spiffe_id: None, hint: "ok".into(), ..draft() };
    assert!(check(bad.clone(), Mask { hint: true, ..Mask::NONE }, &domain()).is_ok());
    assert!(check(bad, Mask { spiffe_id: true, ..Mask::NONE }, &domain()).is_err());
}

#[test]
fn full_update_zeroes_what_is_left_out() {
    let mut entry = entry("e1", "/spire/server", "/db", &["a:1"]);
    entry.hint = "old".into();
    entry.expires_at = Some(UnixTime(9));
    entry.rights.admin = true;
    let changed = check(draft(), Mask::ALL, &domain()).unwrap().apply(&entry);
    assert_eq!((changed.hint.as_str(), changed.expires_at, changed.rights.admin), ("", None, false));
    assert_eq!(changed.created_at, entry.created_at);
}

#[test]
fn graph_reaches_children_of_node_and_alias_transitively_each_once() {
    let graph = Graph::new([
        entry("alias", "/spire/server", "/fleet", &["tpm:policy:prod"]),
        entry("other-alias", "/spire/server", "/lab", &["tpm:policy:lab"]),
        entry("direct", "/spire/agent/tpm/aa", "/direct", &["unix:uid:1"]),
        entry("fleet", "/fleet", "/web", &["unix:uid:2"]),
        entry("below", "/web", "/fleet", &["unix:uid:3"]), // closes a circle
        entry("below2", "/web", "/web/child", &["unix:uid:4"]),
        entry("lab", "/lab", "/labbed", &["unix:uid:5"]),
        entry("elsewhere", "/spire/agent/tpm/bb", "/else", &["unix:uid:6"]),
    ]);
    let node = id("/spire/agent/tpm/aa");
    let facts = selectors(&["tpm:policy:prod", "tpm:secure_boot:on"]);
    let found: Vec<String> = graph.authorized(&node, &facts).iter().map(|e| e.id.clone()).collect();
    assert_eq!(found, ["below", "below2", "direct", "fleet"]);
    for name in ["alias", "other-alias", "direct", "fleet", "below", "below2", "lab", "elsewhere"] {
        let one = graph.authorized_entry(name, &node, &facts);
        assert_eq!(one.is_some(), found.iter().any(|id| id == name), "{name}");
    }
}

#[test]
fn node_without_selectors_gets_its_own_children_only() {
    let graph = Graph::new([
        entry("alias", "/spire/server", "/fleet", &["a:1"]),
        entry("direct", "/spire/agent/tpm/aa", "/direct", &["a:1"]),
        entry("fleet", "/fleet", "/web", &["a:1"]),
    ]);
    let found = graph.authorized(&id("/spire/agent/tpm/aa"), &Selectors::new());
    assert_eq!(found.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["direct"]);
}

#[test]
fn filters_compare_sets_as_spire_does() {
    let own = selectors(&["a:1", "b:2"]);
    let cases = [
        (Match::Exact, &["a:1", "b:2"][..], true),
        (Match::Exact, &["a:1"], false),
        (Match::Subset, &["a:1", "b:2", "c:3"], true),
        (Match::Subset, &["a:1"], false),
        (Match::Superset, &["a:1"], true),
        (Match::Superset, &["a:1", "c:3"], false),
        (Match::Any, &["a:1", "c:3"], true),
        (Match::Any, &["c:3"], false),
    ];
    for (how, asked, want) in cases {
        assert_eq!(how.compares(&own, &selectors(asked)), want, "{how:?} {asked:?}");
        assert!(!how.compares(&Selectors::new(), &selectors(asked)), "an entry without federation never matches");
    }
}

#[test]
fn filter_parts_are_joined_by_and() {
    let entry = entry("e1", "/spire/server", "/db", &["a:1"]);
    let by_id = Filter { spiffe_id: Some(id("/db")), ..Filter::default() };
    assert!(Filter::default().matches(&entry) && by_id.matches(&entry));
    assert!(!Filter { downstream_only: true, ..by_id.clone() }.matches(&entry));
    assert!(!Filter { hint: Some("x".into()), ..by_id.clone() }.matches(&entry));
    assert!(!Filter { parent_id: Some(id("/db")), ..by_id }.matches(&entry));
}

#[test]
fn entries_are_similar_by_id_parent_and_selectors_alone() {
    let one = entry("one", "/spire/agent/tpm/aa", "/db", &["unix:uid:1"]);
    assert!(one.is_similar_to(&entry("two", "/spire/agent/tpm/aa", "/db", &["unix:uid:1"])));
    for other in [
        entry("one", "/spire/agent/tpm/bb", "/db", &["unix:uid:1"]),
        entry("one", "/spire/agent/tpm/aa", "/web", &["unix:uid:1"]),
        entry("one", "/spire/agent/tpm/aa", "/db", &["unix:uid:2"]),
    ] {
        assert!(!one.is_similar_to(&other), "{other:?}");
    }
}

#[test]
fn node_reaches_classes_of_its_own_and_of_its_aliases() {
    let class = |name: &str, parent: &str, named: &[&str]| Class {
        name: ClassName::new(name).unwrap(),
        parent_id: id(parent),
        selectors: selectors(named),
        x509_svid_ttl: 0,
        node_proof: NodeProof::Hardware,
        revision: 0,
        created_at: UnixTime(0),
    };
    let graph = Graph::new([
        entry("alias", "/spire/server", "/fleet", &["tpm:policy:prod"]),
        entry("other-alias", "/spire/server", "/lab", &["tpm:policy:lab"]),
    ]);
    let classes = [
        class("own", "/spire/agent/tpm/aa", &["unix:uid:1"]),
        class("fleet", "/fleet", &["unix:uid:1"]),
        class("lab", "/lab", &["unix:uid:1"]),
        class("elsewhere", "/spire/agent/tpm/bb", &["unix:uid:1"]),
        class("named", "/fleet", &["unix:uid:1", "tpm:enrolled:no"]),
    ];
    let reached = |facts: &[&str]| {
        let found = graph.classes(&id("/spire/agent/tpm/aa"), &selectors(facts), &classes);
        found.iter().map(|c| c.name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reached(&["tpm:policy:prod"]), ["own", "fleet", "named"]);
    assert_eq!(reached(&["tpm:policy:prod", "tpm:enrolled:no"]), ["named"]);
}

/// A small world, told by its seed: few IDs, so that parents, circles and aliases meet.
fn world(seed: u64) -> Vec<Entry> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut one_of = |count: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % count).unwrap()
    };
    let parents = ["/spire/server", "/spire/agent/tpm/aa", "/spire/agent/tpm/bb", "/a", "/b"];
    let facts = [&["k:1"][..], &["k:2"], &["k:1", "k:2"]];
    let steps = one_of(12);
    let mut step = || {
        let (name, parent, path) = (one_of(6), parents[one_of(5)], ["/a", "/b", "/c", "/d"][one_of(4)]);
        entry(&format!("e{name}"), parent, path, facts[one_of(3)])
    };
    (0..steps).map(|_| step()).collect()
}

/// What each of some nodes may serve.
fn served(graph: &Graph) -> Vec<(SpiffeId, Selectors, Vec<Entry>)> {
    let sets = [&[][..], &["k:1"], &["k:2"], &["k:1", "k:2"]].map(selectors);
    let nodes = ["/spire/agent/tpm/aa", "/spire/agent/tpm/bb", "/spire/agent/tpm/cc"].map(id);
    let pairs = nodes.iter().flat_map(|node| sets.iter().map(move |set| (node.clone(), set.clone())));
    pairs.map(|(node, set)| (node.clone(), set.clone(), graph.authorized(&node, &set))).collect()
}

fn concerns(reach: &Reach, node: &SpiffeId, selectors: &Selectors) -> bool {
    let facts: HashSet<Arc<str>> = selectors.iter().map(|selector| selector.to_string().into()).collect();
    reach.ids.contains(node) || reach.aliases.iter().any(|alias| alias.iter().all(|fact| facts.contains(fact)))
}

#[test]
fn an_entry_comes_out_of_the_graph_as_it_went_in() {
    let mut full =
        entry("0192f0c1-2b3c-7d4e-8f50-112233445566", "/spire/agent/tpm/aa", "/x", &["a:1", "unix:path:/a:b"]);
    (full.x509_svid_ttl, full.jwt_svid_ttl, full.revision, full.created_at) = (60, 70, 3, UnixTime(9));
    full.federates_with = vec![TrustDomain::new("other").unwrap()];
    full.rights = Rights { admin: true, downstream: true };
    (full.expires_at, full.hint) = (Some(UnixTime(99)), "h".into());
    full.dns_names = vec!["b.example".into(), "a.example".into()];
    (full.store_svid, full.disable_x509_svid_prefetch, full.jwt_svid_include_jti) = (true, true, true);
    for kept in [full, entry("plain", "/spire/server", "/fleet", &["a:1"])] {
        let graph = Graph::new([kept.clone()]);
        assert_eq!(graph.get(&kept.id), Some(kept));
    }
}

#[test]
fn a_graph_that_lost_every_entry_keeps_nothing() {
    for seed in 1..100 {
        let mut graph = Graph::default();
        let steps = world(seed);
        steps.iter().for_each(|step| graph.put(step.clone()));
        for step in &steps {
            graph.remove(&step.id);
        }
        assert!(graph.is_empty() && graph.alias_ids().is_empty(), "seed {seed}");
        let all = served(&graph);
        assert!(all.iter().all(|(_, _, found)| found.is_empty()), "seed {seed}");
        assert!(graph.holds_nothing(), "seed {seed}: a name or a selector is left");
    }
}

#[test]
fn graph_changed_step_by_step_is_the_graph_made_at_once() {
    for seed in 1..400 {
        let (mut graph, mut last) = (Graph::default(), BTreeMap::new());
        for step in world(seed) {
            last.insert(step.id.clone(), step.clone());
            graph.put(step);
        }
        graph.remove("e0");
        last.remove("e0");
        assert_eq!(served(&graph), served(&Graph::new(last.into_values())), "seed {seed}");
    }
}

#[test]
fn reach_of_a_change_names_every_node_that_serves_something_else_after_it() {
    for seed in 1..400 {
        let mut graph = Graph::default();
        for step in world(seed) {
            let before = served(&graph);
            let mut reach = graph.get(&step.id).map(|old| graph.reach(&old)).unwrap_or_default();
            graph.put(step.clone());
            reach.join(graph.reach(&step));
            for (was, is) in before.iter().zip(served(&graph)) {
                assert!(was.2 == is.2 || concerns(&reach, &is.0, &is.1), "seed {seed}: {step:?} of {}", is.0);
            }
        }
    }
}

#[test]
fn a_change_that_is_not_wide_changes_nothing_but_its_own_entry() {
    for seed in 1..400 {
        let mut graph = Graph::default();
        for step in world(seed) {
            let wide = |graph: &Graph| graph.get(&step.id).is_some_and(|entry| graph.is_wide(&entry));
            let (before, was_wide) = (served(&graph), wide(&graph));
            graph.put(step.clone());
            if was_wide || wide(&graph) {
                continue;
            }
            let others = |served: &[Entry]| served.iter().filter(|e| e.id != step.id).cloned().collect::<Vec<_>>();
            for (was, is) in before.iter().zip(served(&graph)) {
                assert_eq!(others(&was.2), others(&is.2), "seed {seed}: {step:?}");
            }
        }
    }
}
