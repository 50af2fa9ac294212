use std::{cell::Cell, collections::BTreeMap, fmt::Debug, pin::Pin, time::Duration};

use chancery_core::reason::Reason;
use chancery_tests::{
    demo::{Timeline, TimelineEvent},
    playground::{Attest, Options, Playground},
    swtpm::{Manufacturer, Swtpm},
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use crate::rig::{Member, Rig};

/// Failures of strangers are written down once a second.
const WRITTEN_WITHIN: Duration = Duration::from_secs(8);

/// A running CA, a manufacturer it trusts, and the record, by which every attack is judged.
pub struct Court {
    pub timeline: Timeline,
    pub playground: Playground,
    runtime: Runtime,
    maker: Manufacturer,
    trusted: Cell<bool>,
    folder: tempfile::TempDir,
}

/// An attack that proves nobody.
pub struct Case<'a> {
    name: &'a str,
    reason: Reason,
    attack: Pin<Box<dyn Future<Output = Result<(), Status>> + 'a>>,
}

/// An attack, and the code that the record must have of it.
pub fn case<'a, T>(name: &'a str, reason: Reason, attack: impl Future<Output = Result<T, Status>> + 'a) -> Case<'a> {
    Case { name, reason, attack: Box::pin(async { attack.await.map(drop) }) }
}

/// What an attack must leave as it is: nodes and instances, without those of one node.
#[derive(Debug, PartialEq)]
struct Standing(Vec<Value>);

impl Court {
    pub fn open() -> Self {
        Self::with_policy(None)
    }

    /// A CA with a measured-boot policy, TOML.
    pub fn with_policy(policy: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
        let mut options = Options { nodes: 0, ..Options::new(folder.path().join("pg")) };
        if let Some(policy) = policy {
            let path = folder.path().join("policy.toml");
            std::fs::write(&path, policy).unwrap();
            options.lifetimes.policy_file = Some(path);
        }
        Self::of(&options, folder)
    }

    /// A CA that takes tokens too, with lines added to its configuration.
    pub fn for_tokens(lines: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
        let attest = Attest::Pkcs11;
        let mut court = Self::of(&Options { nodes: 0, attest, ..Options::new(folder.path().join("pg")) }, folder);
        if !lines.is_empty() {
            court.restart_with(lines);
        }
        court
    }

    fn of(options: &Options, folder: tempfile::TempDir) -> Self {
        let playground = Playground::start(options).unwrap_or_else(|problem| panic!("{problem}"));
        let timeline = Timeline::follow(&playground).unwrap();
        let maker = Manufacturer::new(&folder.path().join("maker")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { timeline, playground, runtime, maker, trusted: Cell::new(false), folder }
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A genuine TPM, running and enrolled.
    pub fn rig(&self, name: &str) -> Rig {
        let rig = self.rig_of(&self.maker, name);
        if !self.trusted.replace(true) {
            let issuer = self.maker.issuer_pem().display().to_string();
            self.ca_told(&["anchor", "import", &issuer, "--manufacturer", "id:00001014"], "anchor.imported");
        }
        self.enrol(&rig.endorsement().hash());
        rig
    }

    /// A TPM of a manufacturer nobody trusts; its EK is enrolled all the same.
    pub fn rig_of_another_maker(&self, name: &str) -> Rig {
        let rig = self.rig_of(&Manufacturer::new(&self.folder.path().join("other-maker")).unwrap(), name);
        self.enrol(&rig.endorsement().hash());
        rig
    }

    fn rig_of(&self, maker: &Manufacturer, name: &str) -> Rig {
        let state = self.folder.path().join(name);
        maker.make(&state).unwrap_or_else(|problem| panic!("{problem}"));
        Rig::over(Swtpm::start(&state).unwrap(), &self.playground.trust_domain)
    }

    /// A folder for files of a case.
    pub fn scratch(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn enrol(&self, ek_hash: &str) {
        self.ca_told(&["node", "enrol", "--ek", ek_hash], "ek.enrolled");
    }

    /// `chancery-ca` with arguments; answers once the record has an event of `kind` for it.
    pub fn ca_told(&self, args: &[&str], kind: &str) -> TimelineEvent {
        let mark = self.timeline.newest();
        self.playground.ca(args).unwrap_or_else(|problem| panic!("{problem}"));
        self.wait(mark, kind, |e| e.kind == kind)
    }

    pub fn wait(&self, after: i64, what: &str, wanted: impl Fn(&TimelineEvent) -> bool) -> TimelineEvent {
        self.timeline.wait_for(after, WRITTEN_WITHIN, what, wanted).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Attests `rig` honestly and waits for the record.
    pub fn admit(&self, rig: &Rig) -> Member {
        let mark = self.timeline.newest();
        let member = self.run(rig.attest(self)).unwrap_or_else(|status| panic!("an honest node: {status}"));
        self.wait(mark, "node.attested", |e| e.kind == "node.attested" && e.subject == member.id);
        member
    }

    /// An admitted node with a running instance of its own class.
    pub fn member(&self, rig: &Rig) -> Member {
        let mut member = self.admit(rig);
        let class = format!("c{}", &rig.endorsement().hash()[..12]);
        if self.playground.ca(&["class", "show", &class]).is_err() {
            let create =
                ["class", "create", "--name", &class, "--parent-id", &member.id, "--selector", "unix:uid:4711"];
            self.ca_told(&create, "class.created");
        }
        let mark = self.timeline.newest();
        member.instance = self.run(member.begin(self, &class));
        self.wait(mark, "instance.begun", |e| e.kind == "instance.begun");
        member
    }

    /// Each attack is refused as a stranger's: the record sums up exactly these reasons, and nothing else changed.
    pub fn refuses(&self, cases: Vec<Case<'_>>) {
        let (before, mark) = (self.standing(""), self.timeline.newest());
        let mut expected = BTreeMap::new();
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        let count = cases.len() as u64;
        for Case { name, reason, attack } in cases {
            denied(name, self.run(attack));
            *expected.entry(reason.code().to_string()).or_default() += 1;
        }
        assert_eq!(self.strangers_after(mark, count, &names), expected, "cases {names:?}");
        assert!(self.kinds_after(mark).iter().all(|kind| kind == "strangers.refused"), "cases {names:?}");
        assert_eq!(self.standing(""), before, "cases {names:?} changed a node or an instance");
    }

    /// Waits until `count` strangers were refused, and answers how many for which reason.
    fn strangers_after(&self, mark: i64, count: u64, names: &[&str]) -> BTreeMap<String, u64> {
        let (mut told, mut seen, mut sum) = (BTreeMap::new(), mark, 0);
        while sum < count {
            let event = self.wait(seen, &format!("{names:?}, seen {told:?}"), |e| e.kind == "strangers.refused");
            let some = event.fields["count"].as_u64().unwrap();
            (seen, sum) = (event.number, sum + some);
            *told.entry(event.subject).or_default() += some;
        }
        told
    }

    /// The attack is the node's own failure: it has lost its standing and its instance, others nothing.
    pub fn fails<T: Debug>(
        &self,
        case: &str,
        reason: Reason,
        member: &Member,
        attack: impl Future<Output = Result<T, Status>>,
    ) {
        let (before, mark) = (self.standing(&member.id), self.timeline.newest());
        denied(case, self.run(attack));
        let event = self.wait(mark, case, |e| e.kind == "node.failed" || e.kind == "strangers.refused");
        let told = (event.kind.as_str(), event.subject.as_str(), event.fields["reason"].as_str());
        assert_eq!(told, ("node.failed", member.id.as_str(), Some(reason.code())), "case {case}");
        assert_eq!(event.fields["evidence"].as_str().map(str::len), Some(64), "case {case}: its evidence is not kept");
        let ended = self.wait(mark, case, |e| e.kind == "instance.revoked");
        assert_eq!(ended.subject, member.instance, "case {case}");
        let mut kinds = self.kinds_after(mark);
        kinds.dedup();
        // What the instance and the node hold is on the list in the same transaction.
        assert_eq!(kinds, ["node.failed", "instance.revoked", "svid.revoked"], "case {case}");
        assert_eq!(self.standing(&member.id), before, "case {case} changed another node or instance");
        let node = self.node(&member.id);
        assert_eq!((node["standing"].as_str(), node["reason"].as_str()), (Some("failed"), Some(reason.code())));
        assert_eq!(node["live_instances"], 0, "case {case}");
    }

    /// Kinds of every event after `mark` besides CRLs, whole transactions only; the timeline has come to the last of them.
    pub fn kinds_after(&self, mark: i64) -> Vec<String> {
        let after = mark.to_string();
        let text = self.playground.ca(&["audit", "list", "--after", &after]).unwrap_or_else(|e| panic!("{e}"));
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if let Some(last) = events.last().and_then(|event| event["number"].as_i64()) {
            self.wait(last - 1, "the newest event", |_| true);
        }
        let kinds = events.iter().map(|event| event["kind"].as_str().unwrap().to_owned());
        // The list of what was revoked before is signed when its time has come.
        kinds.filter(|kind| kind != "crl.signed").collect()
    }

    pub fn nodes(&self) -> Vec<Value> {
        self.list("node", "nodes")
    }

    pub fn node(&self, id: &str) -> Value {
        self.nodes().into_iter().find(|node| node["id"] == id).unwrap_or_default()
    }

    fn standing(&self, without: &str) -> Standing {
        let nodes = self.nodes().into_iter().filter(|node| node["id"] != without);
        let instances = self.list("instance", "instances").into_iter().filter(|i| i["node_id"] != without);
        Standing(nodes.chain(instances).collect())
    }

    fn list(&self, noun: &str, key: &str) -> Vec<Value> {
        let text =
            self.playground.ca(&[noun, "list", "--output", "json"]).unwrap_or_else(|problem| panic!("{problem}"));
        let all: Value = serde_json::from_str(&text).unwrap();
        all[key].as_array().unwrap().clone()
    }

    /// Kills the CA and starts it again with `lines` added to its configuration; follows the record anew.
    pub fn restart_with(&mut self, lines: &str) {
        let config = self.playground.authority.config.clone();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text + lines).unwrap();
        self.playground.authority.restart().unwrap_or_else(|problem| panic!("{problem}"));
        self.timeline = Timeline::follow(&self.playground).unwrap();
        self.wait(-1, "server.started", |e| e.kind == "server.started" && e.number > 0);
    }
}

/// Whoever asks learns one word.
pub fn denied<T: Debug>(case: &str, answer: Result<T, Status>) {
    let Err(status) = answer else { panic!("case {case} was admitted: {answer:?}") };
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "denied"), "case {case}");
    assert!(status.details().is_empty(), "case {case}: {:?}", status.details());
}
