use std::collections::BTreeSet;

use chancery_ca::store::*;
use chancery_core::{
    instance::{Instance, Standing},
    node,
    reason::Reason,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_revoked_instance_gets_nothing_and_its_process_never_begins_again
    a_revoked_process_begins_no_child_of_its_class_until_the_class_is_reopened
    every_certificate_of_a_revoked_instance_is_listed_and_its_id
    an_instance_that_ended_is_revoked_while_its_svid_is_valid
    revoking_twice_changes_nothing_and_tells_what_was_hit
    a_revoked_class_begins_nowhere
    a_revoked_entry_is_gone_and_only_its_own_svids_are_listed
    an_entry_that_was_deleted_before_is_revoked_all_the_same
    a_revoked_node_is_banned_and_what_it_holds_is_listed
    all_under_a_node_lists_what_entries_had_through_it_up_to_the_commit
    a_revoked_executable_begins_no_more_and_its_classes_are_closed_where_it_ran
    a_ban_a_failure_and_an_eviction_revoke_the_nodes_instances
    whoever_asks_for_what_is_not_there_is_told_so
    the_record_says_who_and_why_and_keeps_the_caller_apart
    no_issuance_that_commits_after_a_revocation_is_granted_whichever_server_decided_it
    revoked_and_unexpired_is_always_listed
    a_certificate_is_found_by_its_serial_number_and_revoked_alone
}

fn order() -> Order {
    Order { reason: "stolen key".into(), caller: "uid 0".into() }
}

fn run(run: u8) -> SpiffeId {
    sample::begin(1, run).instance.id
}

fn revoke(n: u8) -> Fact {
    Fact::RevokeInstance(RevokeInstance { id: run(n), order: order() })
}

fn reopen(node: &str) -> Fact {
    Fact::ReopenClass(ReopenClass { node: node.into(), class: "a".into(), order: order() })
}

async fn ready(db: &Bench) {
    for n in [1, 2] {
        db.done(Fact::AdmitNode(sample::admission(n))).await;
    }
    db.done(Fact::CreateClass(sample::class("a"))).await;
}

async fn begun(db: &Bench, runs: &[u8]) {
    ready(db).await;
    for run in runs {
        db.done(Fact::BeginInstance(sample::begin(1, *run))).await;
    }
}

/// What is listed now: certificates as `#serial`, IDs as `all ID` and `tokens ID`.
async fn listed(db: &Bench) -> BTreeSet<String> {
    let rows = db.store.revocations(sample::now(), "", u32::MAX).await.unwrap();
    rows.into_iter()
        .map(|row| match row.revoked.what {
            What::All => format!("all {}", row.revoked.subject),
            What::Certificate(certificate) => format!("#{}", certificate.serial),
            What::Tokens { .. } => format!("tokens {}", row.revoked.subject),
        })
        .collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

fn token_of(n: u8) -> RecordJwt {
    sample::jwt(1, JwtSubject::Instance { id: run(n), start_token: [n; 32] })
}

async fn a_revoked_instance_gets_nothing_and_its_process_never_begins_again(db: Bench) {
    begun(&db, &[1]).await;
    db.done(revoke(1)).await;
    let stored = db.store.instance(&run(1)).await.unwrap().unwrap();
    assert_eq!((stored.standing, stored.end_reason.as_str()), (Standing::Revoked, "instance-revoked"));
    assert!(stored.ended_at.is_some());
    db.done(reopen(sample::node_id(1).as_str())).await;
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 1))).await, Refusal::InstanceNotGood);
    assert_eq!(db.refused(Fact::RecordJwt(token_of(1))).await, Refusal::InstanceNotGood);
    let again = BeginInstance { instance: process_of(1, 2), ..sample::begin(1, 2) };
    assert_eq!(db.refused(Fact::BeginInstance(again)).await, Refusal::ProcessEnded(run(1).to_string()));
}

/// Run `new` as the process that was run `old`.
fn process_of(old: u8, new: u8) -> Instance {
    Instance { start_token: [old; 32], ..sample::begin(1, new).instance }
}

async fn a_revoked_process_begins_no_child_of_its_class_until_the_class_is_reopened(db: Bench) {
    begun(&db, &[1, 2]).await;
    db.done(revoke(1)).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 3))).await, Refusal::ClassClosed);
    assert!(Refusal::ClassClosed.to_string().starts_with(Reason::ClassClosed.code()));
    db.done(Fact::RenewInstance(sample::renewal(1, 2))).await;
    db.done(Fact::BeginInstance(sample::begin(2, 4))).await;
    assert_eq!(db.refused(reopen(sample::node_id(2).as_str())).await, Refusal::NotFound);
    assert_eq!(db.refused(reopen(EVERY_NODE)).await, Refusal::NotFound);
    // A class made anew under the name is as closed.
    db.done(Fact::DeleteClass(ClassRef { name: "a".into() })).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 3))).await, Refusal::ClassClosed);
    db.done(reopen(sample::node_id(1).as_str())).await;
    db.done(Fact::BeginInstance(sample::begin(1, 3))).await;
    assert_eq!(db.store.closures().await.unwrap(), []);
}

async fn every_certificate_of_a_revoked_instance_is_listed_and_its_id(db: Bench) {
    begun(&db, &[1, 2]).await;
    let over = RenewInstance { spki_sha256: [90; 32], ..sample::renewal(1, 1) };
    let over = RenewInstance { cert: node::CertRef { serial: "over".into(), expires_at: sample::now() }, ..over };
    db.done(Fact::RenewInstance(over)).await;
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
    let token = RecordJwt { expires_at: sample::now().plus(9000), ..token_of(1) };
    db.done(Fact::RecordJwt(token.clone())).await;
    let number = db.done(revoke(1)).await;
    assert_eq!(listed(&db).await, set(["#71", "#81", &format!("all {}", run(1))]));
    let rows = db.store.revocations(sample::now(), "", u32::MAX).await.unwrap();
    let id = rows.iter().find(|row| row.revoked.what == What::All).unwrap();
    assert_eq!(id.revoked.expires_at, token.expires_at, "its token lives longest");
    assert!(rows.iter().all(|row| row.number == number && row.reason == "stolen key"), "{rows:?}");
    let hits = db.store.hits("instance.revoked", run(1).as_str()).await.unwrap();
    let until = Some(token.expires_at);
    assert_eq!(hits, Hits { instances: 1, certificates: 2, token_ids: 0, until });
    let first = db.store.revocations(sample::now(), "", 1).await.unwrap().remove(0);
    let rest = db.store.revocations(sample::now(), &first.key, 9).await.unwrap();
    assert_eq!(rest.len(), 2, "page by page");
    assert_eq!(db.store.revocations(token.expires_at, "", 9).await.unwrap(), [], "what has ended needs no list");
}

async fn an_instance_that_ended_is_revoked_while_its_svid_is_valid(db: Bench) {
    begun(&db, &[1]).await;
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    db.done(revoke(1)).await;
    assert_eq!(listed(&db).await, set(["#71", &format!("all {}", run(1))]));
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 2))).await, Refusal::ClassClosed);
}

async fn revoking_twice_changes_nothing_and_tells_what_was_hit(db: Bench) {
    begun(&db, &[1]).await;
    db.done(revoke(1)).await;
    let (before, hits) = (db.events().await.len(), db.store.hits("instance.revoked", run(1).as_str()).await.unwrap());
    db.done_or_nothing(revoke(1)).await;
    assert_eq!(db.events().await.len(), before);
    assert_eq!(db.store.hits("instance.revoked", run(1).as_str()).await.unwrap(), hits);
}

async fn a_revoked_class_begins_nowhere(db: Bench) {
    begun(&db, &[1, 2]).await;
    db.done(Fact::BeginInstance(sample::begin(2, 3))).await;
    db.done(Fact::RevokeClass(RevokeClass { name: "a".into(), order: order() })).await;
    for run in [1, 2, 3] {
        let stored = db.store.instance(&run_of(run)).await.unwrap().unwrap();
        assert_eq!((stored.standing, stored.end_reason.as_str()), (Standing::Revoked, "class-closed"));
    }
    for (node, run) in [(1, 4), (2, 5)] {
        assert_eq!(db.refused(Fact::BeginInstance(sample::begin(node, run))).await, Refusal::ClassClosed);
    }
    assert_eq!(db.store.closed_on("a").await.unwrap(), [EVERY_NODE]);
    db.done(reopen(EVERY_NODE)).await;
    db.done(Fact::BeginInstance(sample::begin(2, 5))).await;
}

fn run_of(run: u8) -> SpiffeId {
    sample::begin(1, run).instance.id
}

fn svid(n: u8, entry: &str, serial: &str) -> Fact {
    Fact::RecordX509(RecordX509 { cert: sample::cert(serial), ..sample::svid(n, entry) })
}

fn entry_token(entry: &str) -> Fact {
    Fact::RecordJwt(sample::jwt(1, JwtSubject::Entry { id: entry.into(), revision: 0 }))
}

/// Two entries that give one ID, on a node each.
async fn entries(db: &Bench) {
    ready(db).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    let mut other = sample::entry("e2");
    other.spiffe_id = sample::entry("e1").spiffe_id;
    other.parent_id = sample::node_id(2);
    db.done(Fact::CreateEntry(other)).await;
}

fn revoke_entry(id: &str) -> Fact {
    Fact::RevokeEntry(RevokeEntry { id: id.into(), order: order() })
}

async fn a_revoked_entry_is_gone_and_only_its_own_svids_are_listed(db: Bench) {
    entries(&db).await;
    db.done(svid(1, "e1", "501")).await;
    // The ID it gave before counts as well.
    let mut moved = sample::entry("e1");
    (moved.spiffe_id, moved.revision) = (sample::id("/service/later"), 1);
    db.done(Fact::UpdateEntry(moved)).await;
    db.done(svid(2, "e2", "502")).await;
    let later = RecordX509 { cert: sample::cert("503"), entry_revision: 1, ..sample::svid(1, "e1") };
    db.done(Fact::RecordX509(later)).await;
    db.done(Fact::RecordJwt(sample::jwt(1, JwtSubject::Entry { id: "e1".into(), revision: 1 }))).await;
    db.done(revoke_entry("e1")).await;
    assert_eq!(listed(&db).await, set(["#501", "#503", "tokens spiffe://example.org/service/later"]));
    assert_eq!(db.store.entry("e1").await.unwrap(), None);
    assert_eq!(db.refused(svid(1, "e1", "504")).await, Refusal::EntryGone);
    assert_eq!(db.refused(entry_token("e1")).await, Refusal::EntryGone);
    db.done(svid(2, "e2", "505")).await;
    let hits = db.store.hits("entry.revoked", "e1").await.unwrap();
    assert_eq!((hits.instances, hits.certificates, hits.token_ids), (0, 2, 1));
}

async fn an_entry_that_was_deleted_before_is_revoked_all_the_same(db: Bench) {
    entries(&db).await;
    db.done(svid(1, "e1", "501")).await;
    db.done(Fact::DeleteEntry(EntryRef { id: "e1".into() })).await;
    db.done(revoke_entry("e1")).await;
    assert_eq!(listed(&db).await, set(["#501"]));
    let before = db.events().await.len();
    db.done_or_nothing(revoke_entry("e1")).await;
    assert_eq!(db.events().await.len(), before);
}

async fn under(db: &Bench) -> Option<Under> {
    Some(db.store.under(&sample::node_id(1), sample::now()).await.unwrap())
}

async fn a_revoked_node_is_banned_and_what_it_holds_is_listed(db: Bench) {
    entries(&db).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    db.done(svid(1, "e1", "501")).await;
    db.done(Fact::RevokeNode(RevokeNode { id: sample::node_id(1), under: None, order: order() })).await;
    assert_eq!(listed(&db).await, set(["#10", "#71", &format!("all {}", run(1))]));
    let stored = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((stored.standing, stored.current), (node::Standing::Banned, None));
    assert_eq!(db.refused(svid(1, "e1", "502")).await, Refusal::NodeNotGood);
    assert_eq!(db.store.closures().await.unwrap(), [], "the node is out as a whole");
}

async fn all_under_a_node_lists_what_entries_had_through_it_up_to_the_commit(db: Bench) {
    entries(&db).await;
    db.done(svid(1, "e1", "501")).await;
    db.done(svid(2, "e2", "502")).await;
    let under = under(&db).await;
    assert_eq!(under.as_ref().unwrap().issued.len(), 1);
    // Between the reading and the act.
    db.done(svid(1, "e1", "503")).await;
    db.done(entry_token("e1")).await;
    db.done(Fact::RevokeNode(RevokeNode { id: sample::node_id(1), under, order: order() })).await;
    let tokens = format!("tokens {}", sample::entry("e1").spiffe_id);
    assert_eq!(listed(&db).await, set(["#10", "#501", "#503", &tokens]));
}

fn with_hash(node: u8, run: u8, sha256: &str) -> Fact {
    let mut fact = sample::begin(node, run);
    fact.facts.insert("sha256", sha256.into());
    Fact::BeginInstance(fact)
}

async fn a_revoked_executable_begins_no_more_and_its_classes_are_closed_where_it_ran(db: Bench) {
    begun(&db, &[1]).await;
    let (bad, good) = ("ab".repeat(32), "cd".repeat(32));
    db.done(with_hash(1, 2, &bad)).await;
    db.done(with_hash(2, 3, &good)).await;
    let fact = Fact::RevokeExecutable(RevokeExecutable { sha256: bad.clone(), order: order() });
    db.done(fact.clone()).await;
    assert_eq!(listed(&db).await, set(["#72", &format!("all {}", run(2))]));
    assert_eq!(db.refused(with_hash(2, 4, &bad)).await, Refusal::ExecutableRevoked);
    assert_eq!(db.refused(with_hash(1, 5, &good)).await, Refusal::ClassClosed, "one byte more is another hash");
    db.done(with_hash(2, 6, &good)).await;
    assert_eq!(db.store.revoked_executables().await.unwrap()[0].sha256, bad);
    let before = db.events().await.len();
    db.done_or_nothing(fact).await;
    assert_eq!(db.events().await.len(), before);
}

async fn a_ban_a_failure_and_an_eviction_revoke_the_nodes_instances(db: Bench) {
    begun(&db, &[1]).await;
    let node = sample::node_id(1);
    let fail =
        FailNode { id: node.clone(), reason: Reason::PcrPolicy, steps: Vec::new(), detail: String::new(), kept: None };
    db.done(Fact::FailNode(fail)).await;
    let first = set(["#10", "#71", &format!("all {}", run(1))]);
    assert_eq!(listed(&db).await, first);
    let rows = db.store.revocations(sample::now(), "", 9).await.unwrap();
    assert!(rows.iter().all(|row| row.reason == "PCR_POLICY" && row.cause_kind == "node.failed"), "{rows:?}");
    for (n, run, fact) in [
        (2, 2, Fact::BanNode(NodeRef { id: sample::node_id(2) })),
        (3, 3, Fact::EvictNode(NodeRef { id: sample::node_id(3) })),
    ] {
        if n == 3 {
            db.done(Fact::AdmitNode(sample::admission(3))).await;
        }
        db.done(Fact::BeginInstance(sample::begin(n, run))).await;
        db.done(fact).await;
        let now = listed(&db).await;
        assert!(now.contains(&format!("#{n}0")) && now.contains(&format!("#7{run}")), "{now:?}");
        let stored = db.store.instance(&run_of(run)).await.unwrap().unwrap();
        assert_eq!(stored.standing, Standing::Revoked);
    }
    assert_eq!(db.store.closures().await.unwrap(), []);
}

async fn whoever_asks_for_what_is_not_there_is_told_so(db: Bench) {
    ready(&db).await;
    let unknown = [
        revoke(1),
        revoke_entry("e1"),
        Fact::RevokeClass(RevokeClass { name: "b".into(), order: order() }),
        Fact::RevokeNode(RevokeNode { id: sample::node_id(9), under: None, order: order() }),
        reopen(EVERY_NODE),
    ];
    for fact in unknown {
        assert_eq!(db.refused(fact).await, Refusal::NotFound);
    }
}

async fn the_record_says_who_and_why_and_keeps_the_caller_apart(db: Bench) {
    begun(&db, &[1]).await;
    let number = db.done(revoke(1)).await;
    let events = db.events().await;
    let event = json(&events[usize::try_from(number).unwrap()]);
    assert_eq!((&event["kind"], &event["fields"]["reason"]), (&"instance.revoked".into(), &"stolen key".into()));
    assert!(event["fields"]["caller"]["salted_sha256"].is_string());
    assert!(events.iter().all(|event| !String::from_utf8_lossy(&event.bytes).contains("uid 0")));
    let kinds: Vec<_> = db.kinds_from(number).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["instance.revoked", "svid.revoked", "class.closed"]);
    let closed = json(events.last().unwrap());
    assert_eq!(closed["fields"]["cause_subject"], run(1).as_str());
    let number = db.done(reopen(sample::node_id(1).as_str())).await;
    let event = json(&db.events().await[usize::try_from(number).unwrap()]);
    assert_eq!((&event["kind"], &event["fields"]["reason"]), (&"class.reopened".into(), &"stolen key".into()));
}

/// The other server decided on what it knew; nobody told it, and it does not look. Its facts come one by one and together.
async fn no_issuance_that_commits_after_a_revocation_is_granted_whichever_server_decided_it(db: Bench) {
    entries(&db).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    let theirs = Store::open(&db.url, "other").await.unwrap();
    let bad = "ab".repeat(32);
    let asked = vec![
        Fact::RenewInstance(sample::renewal(1, 1)),
        Fact::RecordJwt(token_of(1)),
        Fact::BeginInstance(sample::begin(1, 2)),
        svid(1, "e1", "501"),
        entry_token("e1"),
        with_hash(2, 3, &bad),
    ];
    db.done(revoke(1)).await;
    db.done(revoke_entry("e1")).await;
    db.done(Fact::RevokeExecutable(RevokeExecutable { sha256: bad.clone(), order: order() })).await;
    let want = [
        Refusal::InstanceNotGood,
        Refusal::InstanceNotGood,
        Refusal::ClassClosed,
        Refusal::EntryGone,
        Refusal::EntryGone,
        Refusal::ExecutableRevoked,
    ];
    for (fact, want) in asked.iter().zip(&want) {
        assert_eq!(theirs.commit(fact.clone()).await.unwrap(), Outcome::Refused(want.clone()), "{fact:?}");
    }
    let together = theirs.commit_all(asked).await.unwrap();
    assert_eq!(together, want.map(Outcome::Refused));
    db.done(Fact::RevokeNode(RevokeNode { id: sample::node_id(2), under: None, order: order() })).await;
    for fact in [Fact::BeginInstance(sample::begin(2, 4)), svid(2, "e2", "502")] {
        assert_eq!(theirs.commit(fact).await.unwrap(), Outcome::Refused(Refusal::NodeNotGood));
    }
}

/// Small numbers by a fixed rule, so that a failure comes again (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}

/// Everything that cleans, ends, deletes or opens again; none of it may take a row away.
fn maintenance(which: usize, now: UnixTime) -> Fact {
    let moment = Moment { now };
    match which {
        0 => Fact::PruneRecords(moment),
        1 => Fact::PruneEntries(moment),
        2 => Fact::ExpireNodes(moment),
        3 => Fact::ExpireGuests(moment),
        4 => Fact::DeleteEntry(EntryRef { id: "e1".into() }),
        5 => Fact::DeleteClass(ClassRef { name: "a".into() }),
        6 => Fact::CreateClass(sample::class("a")),
        7 => reopen(sample::node_id(1).as_str()),
        8 => reopen(EVERY_NODE),
        9 => Fact::EvictNode(NodeRef { id: sample::node_id(1) }),
        10 => Fact::AdmitNode(sample::admission(1)),
        11 => Fact::BanNode(NodeRef { id: sample::node_id(2) }),
        12 => Fact::RetireAuthority(AuthorityId { id: sample::X509.into() }),
        13 => Fact::RemoveAuthority(RemoveAuthority { id: sample::X509.into(), keep_until: now }),
        14 => Fact::Reconcile(sample::reconcile(1, 9, &[])),
        15 => Fact::EndInstance(EndInstance { id: run(3), node_id: None, reason: "operator" }),
        16 => revoke(1),
        _ => revoke(3),
    }
}

/// Whatever is done in whatever order: what was revoked and has not ended is listed.
async fn revoked_and_unexpired_is_always_listed(db: Bench) {
    entries(&db).await;
    for n in [1, 2, 3] {
        db.done(Fact::BeginInstance(sample::begin(1, n))).await;
    }
    db.done(Fact::RecordJwt(token_of(1))).await;
    db.done(svid(1, "e1", "501")).await;
    db.done(entry_token("e1")).await;
    db.done(revoke(1)).await;
    db.done(revoke_entry("e1")).await;
    let mut want: Vec<Revocation> = db.store.revocations(sample::now(), "", u32::MAX).await.unwrap();
    assert!(want.len() >= 4);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut now = sample::now();
    for _ in 0..120 {
        // Time goes on by up to two minutes, so that some of it ends on the way.
        now = now.plus(i64::try_from(dice.below(120)).unwrap());
        let fact = maintenance(dice.below(18), now);
        db.store.commit(fact.clone()).await.unwrap();
        let have = db.store.revocations(now, "", u32::MAX).await.unwrap();
        want.retain(|row| row.revoked.expires_at > now);
        for row in &want {
            assert!(have.iter().any(|other| other.revoked == row.revoked), "{row:?} is gone after {fact:?}");
        }
        // What came by it has to stay as well.
        want = have;
    }
    // A day after the last end there is nothing to be listed, and the rows go.
    db.done_or_nothing(Fact::PruneRecords(Moment { now: now.plus(3 * 86_400) })).await;
    assert_eq!(db.store.revocations(UnixTime(0), "", u32::MAX).await.unwrap(), []);
}

async fn a_certificate_is_found_by_its_serial_number_and_revoked_alone(db: Bench) {
    begun(&db, &[1, 2]).await;
    let now = sample::now();
    let cert = sample::begin(1, 1).instance.newest;
    let found = db.store.certificates(None, &cert.serial, now).await.unwrap();
    let [(kind, issued)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((kind.as_str(), &issued.subject), ("instance.begun", &run(1).to_string()));
    assert_eq!(db.store.certificates(Some(sample::X509), &cert.serial, now).await.unwrap(), found);
    assert!(db.store.certificates(Some("aa:bb"), &cert.serial, now).await.unwrap().is_empty());
    assert!(db.store.certificates(None, "1234567", now).await.unwrap().is_empty());
    assert!(db.store.certificates(None, &cert.serial, cert.expires_at).await.unwrap().is_empty(), "it has ended");
    let fact = Fact::RevokeCertificate(RevokeCertificate { issued: issued.clone(), order: order() });
    let number = db.done(fact.clone()).await;
    let act = issued.certificate.as_ref().unwrap().name();
    let told = [("certificate.revoked".to_owned(), act.clone()), ("svid.revoked".to_owned(), run(1).to_string())];
    assert_eq!(db.kinds_from(number).await, told);
    db.done_or_nothing(fact).await;
    assert_eq!(db.kinds_from(number).await, told, "twice is as once");
    assert_eq!(listed(&db).await, BTreeSet::from([format!("#{}", cert.serial)]));
    assert_eq!(db.store.hits("certificate.revoked", &act).await.unwrap().certificates, 1);
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
}
