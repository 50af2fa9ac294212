use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    x509::X509Bundle,
};
use futures_util::{StreamExt, stream};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Order, Polling, Setting,
    arrivals::Arrivals,
    member::Member,
    poll::{Shared, Trust, poll},
    source_of,
    watch::{FIRST_STATE, watch},
};
use crate::{
    dice::Dice,
    moment::Moment,
    pace::Ledger,
    server::{Dialer, csr},
    stats::Tally,
};

/// CSRs that the nodes of a crew use in turn: what is measured is the server.
const CSRS: usize = 64;

/// Nodes of one process.
pub struct Crew {
    setting: Setting,
    domain: TrustDomain,
    dialer: Arc<Dialer>,
    members: Vec<Arc<Member>>,
    polls: Option<Polls>,
    /// Dials that an answer has told already.
    dials_told: u64,
}

/// Nodes that poll, until they are halted.
struct Polls {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Crew {
    /// Nobody yet.
    ///
    /// # Errors
    /// The setting makes no sense.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let domain = TrustDomain::new(&setting.domain).map_err(|e| e.to_string())?;
        let server = SpiffeId::from_path(&domain, "/spire/server").map_err(|e| e.to_string())?;
        let bundle = X509Bundle::from_pem(domain.clone(), &setting.bundle_pem).map_err(|e| e.to_string())?;
        let dialer = Arc::new(Dialer::new(setting.server, &server, bundle));
        Ok(Self { setting: setting.clone(), domain, dialer, members: Vec::new(), polls: None, dials_told: 0 })
    }

    /// Does what it is told; when `stop` comes it answers with what it has.
    pub async fn obey(&mut self, order: Order, stop: &CancellationToken) -> Answer {
        match order {
            Order::Attest { tokens, parallel } => self.attest(tokens, parallel, stop).await,
            Order::Await { path, only, within_ms } => {
                let within = Duration::from_millis(within_ms);
                Answer { arrivals: self.wait(&path, only, within, stop).await, ..Answer::default() }
            }
            Order::Connect { parallel } => self.connect(parallel, stop).await,
            Order::Followed { within_ms } => {
                let there = self.wait(FIRST_STATE, None, Duration::from_millis(within_ms), stop).await;
                let problem = (there.len() < self.members.len())
                    .then(|| format!("{} of {} nodes had a first state", there.len(), self.members.len()));
                Answer { problem, ..Answer::default() }
            }
            Order::Halt => {
                let tally = self.halt().await;
                of(self.with_dials(tally))
            }
            Order::Issue { at, within_ms } => self.issue(at, within_ms, stop).await,
            Order::Poll(polling) => self.begin(polling),
            Order::Read => {
                let tally = self.polls.as_ref().map(|polls| polls.shared.ledger.take()).unwrap_or_default();
                of(self.with_dials(tally))
            }
            Order::Reconnect { at, within_ms, patience_ms } => {
                self.members.iter().for_each(|member| member.hang_up());
                self.each(Deed::ComeBack(Duration::from_millis(patience_ms)), at, within_ms, stop).await
            }
            Order::Renew { at, within_ms } => self.each(Deed::Renew, at, within_ms, stop).await,
            Order::Stop => Answer::default(),
        }
    }

    async fn attest(&mut self, tokens: Vec<String>, parallel: usize, stop: &CancellationToken) -> Answer {
        let (ledger, mut answer) = (Arc::new(Ledger::default()), Answer::default());
        let one = |(place, token): (usize, String)| {
            let (dialer, ledger, stop) = (Arc::clone(&self.dialer), Arc::clone(&ledger), stop.clone());
            let index = self.setting.base + place;
            let source = source_of(&self.setting.sources, index);
            async move {
                // Whoever was not begun when the stop came is left out.
                if stop.is_cancelled() {
                    return None;
                }
                let attested = async move { Member::attest(&dialer, &token, index, source, &ledger).await };
                tokio::spawn(attested).await.ok()
            }
        };
        let all = stream::iter(tokens.into_iter().enumerate()).map(one).buffered(parallel.max(1));
        for attested in all.collect::<Vec<_>>().await.into_iter().flatten() {
            match attested {
                Ok(member) => {
                    answer.nodes.insert(member.index, member.node.id.path.clone());
                    self.members.push(Arc::new(member));
                }
                Err(problem) => drop(answer.problem.get_or_insert(problem)),
            }
        }
        answer.tally = ledger.take();
        answer
    }

    async fn connect(&self, parallel: usize, stop: &CancellationToken) -> Answer {
        let ledger = Arc::new(Ledger::default());
        let one = |member: Arc<Member>| {
            let (ledger, stop) = (Arc::clone(&ledger), stop.clone());
            async move {
                if stop.is_cancelled() {
                    return None;
                }
                let connected = async move {
                    let begun = Moment::now();
                    let connected = member.connect(&ledger).await;
                    let outcome = connected.as_ref().map(|()| 1).map_err(|_| "Connect".to_owned());
                    ledger.open().call("connect", Moment::now().since(begun), outcome);
                    connected
                };
                tokio::spawn(connected).await.ok().and_then(Result::err)
            }
        };
        let all = stream::iter(self.members.clone()).map(one).buffer_unordered(parallel.max(1));
        let problem = all.collect::<Vec<_>>().await.into_iter().flatten().next();
        Answer { tally: ledger.take(), problem, ..Answer::default() }
    }

    fn begin(&mut self, polling: Polling) -> Answer {
        let trust = Trust::new(self.domain.clone(), Arc::clone(&self.dialer));
        let (ledger, arrivals) = (Ledger::default(), Arrivals::default());
        let shared = Arc::new(Shared { polling, ledger, arrivals, trust });
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        for member in &self.members {
            let (member, shared, stop) = (Arc::clone(member), Arc::clone(&shared), stop.clone());
            match shared.polling.native {
                true => tasks.spawn(watch(member, shared, stop)),
                false => tasks.spawn(poll(member, shared, stop)),
            };
        }
        self.polls = Some(Polls { shared, tasks, stop });
        Answer::default()
    }

    async fn halt(&mut self) -> Tally {
        let Some(mut polls) = self.polls.take() else { return Tally::default() };
        polls.stop.cancel();
        while polls.tasks.join_next().await.is_some() {}
        polls.shared.ledger.take()
    }

    /// Adds the connections made since the last time: servers close old ones, and renewals replace them.
    fn with_dials(&mut self, mut tally: Tally) -> Tally {
        let dials = self.dialer.dials();
        tally.count("dials", dials - std::mem::replace(&mut self.dials_told, dials));
        tally
    }

    async fn wait(
        &self,
        path: &str,
        only: Option<usize>,
        within: Duration,
        stop: &CancellationToken,
    ) -> BTreeMap<usize, Moment> {
        let Some(polls) = &self.polls else { return BTreeMap::new() };
        let wanted: Vec<usize> =
            self.members.iter().map(|m| m.index).filter(|index| only.is_none_or(|only| only == *index)).collect();
        let seen = polls.shared.arrivals.wait(path, |seen| wanted.iter().all(|index| seen.contains_key(index)));
        tokio::select! {
            biased;
            seen = timeout(within, seen) => seen.unwrap_or_else(|_| polls.shared.arrivals.of(path)),
            () = stop.cancelled() => polls.shared.arrivals.of(path),
        }
    }

    /// Has every entry's SVID issued at a moment of its own, as nodes do after a taint.
    async fn issue(&self, at: Moment, within_ms: u64, stop: &CancellationToken) -> Answer {
        let csrs = match (0..CSRS).map(|_| csr()).collect::<Result<Vec<_>, _>>() {
            Ok(csrs) => Arc::new(csrs),
            Err(problem) => return Answer { problem: Some(problem), ..Answer::default() },
        };
        let ledger = Arc::new(Ledger::default());
        let mut tasks = JoinSet::new();
        for member in &self.members {
            let mut dice = Dice::new(member.index as u64);
            for (number, entry) in member.entries().into_iter().enumerate() {
                let due = at.plus(Duration::from_millis(within_ms).mul_f64(dice.share()));
                let (member, ledger, csrs) = (Arc::clone(member), Arc::clone(&ledger), Arc::clone(&csrs));
                tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                    due.come().await;
                    finish("issue", &ledger, at, due, member.issue(&entry, &csrs[number % CSRS]).await);
                }));
            }
        }
        while tasks.join_next().await.is_some() {}
        of(ledger.take())
    }

    /// Has every member do something at a moment of its own, within so many milliseconds after `at`.
    async fn each(&self, deed: Deed, at: Moment, within_ms: u64, stop: &CancellationToken) -> Answer {
        let ledger = Arc::new(Ledger::default());
        let mut tasks = JoinSet::new();
        for member in &self.members {
            let share = Dice::new(member.index as u64).share();
            let due = at.plus(Duration::from_millis(within_ms).mul_f64(share));
            let (member, ledger) = (Arc::clone(member), Arc::clone(&ledger));
            tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                due.come().await;
                deed.done(&member, &ledger, at, due).await;
            }));
        }
        while tasks.join_next().await.is_some() {}
        of(ledger.take())
    }
}

/// What all nodes do at once.
#[derive(Clone, Copy)]
enum Deed {
    /// Connect again, for so long.
    ComeBack(Duration),
    Renew,
}

impl Deed {
    async fn done(self, member: &Member, ledger: &Ledger, at: Moment, due: Moment) {
        let (name, outcome) = match self {
            Self::ComeBack(patience) => {
                let is_back = member.come_back(patience, ledger).await;
                ("back", if is_back { Ok(1) } else { Err("NotBack".to_owned()) })
            }
            Self::Renew => ("renew", member.renew(ledger).await.map(|()| 1)),
        };
        finish(name, ledger, at, due, outcome);
    }
}

/// Counts one rotation or return: from the moment it was due, and into its second since `at`.
fn finish(name: &str, ledger: &Ledger, at: Moment, due: Moment, outcome: Result<u64, String>) {
    let now = Moment::now();
    let mut ledger = ledger.open();
    if outcome.is_ok() {
        ledger.seconds.record(now.since(at));
    }
    ledger.call(name, now.since(due), outcome);
}

fn of(tally: Tally) -> Answer {
    Answer { tally, ..Answer::default() }
}
