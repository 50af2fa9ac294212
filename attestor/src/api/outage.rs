//! How long agents keep working while no server of the CA can be asked, and what ends it.
//!
//! Nobody has to be asked for what is held: an agent works on until its X509-SVID ends, and refuses its peers when theirs
//! do. The first end of anything in use is the budget. A process that has no identity yet, and a JWT-SVID for a new
//! audience, have none at all: they need the CA.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use chancery_sdk::time::UnixTime;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};
use tokio::time::{Instant, sleep};

use super::Door;
use crate::{ca::Condition, sync::until};

/// What ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// The X509-SVID of an entry that a process asked for.
    EntrySvid,
    /// The X509-SVID of an instance.
    InstanceSvid,
    /// A JWT-SVID that was handed out. Not part of the budget: for another audience there is none either way.
    JwtSvid,
    /// The node's own SVID, and with it everything.
    NodeSvid,
    /// The last authority of the trust domain that this node knows: nobody verifies anything after it.
    TrustBundle,
}

/// The first end of its kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct End {
    pub what: Ending,
    /// Whose.
    pub id: String,
    pub at: UnixTime,
}

impl Ending {
    /// As labels and status say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EntrySvid => "entry_svid",
            Self::InstanceSvid => "instance_svid",
            Self::JwtSvid => "jwt_svid",
            Self::NodeSvid => "node_svid",
            Self::TrustBundle => "trust_bundle",
        }
    }
}

impl Door {
    /// The first end of each kind of thing in use; nothing without standing.
    pub(super) fn ends(&self) -> Vec<End> {
        let Some(node) = self.identity.borrow().clone() else { return Vec::new() };
        let now = (self.clock)();
        // What is wanted and not there has ended already, if nobody can be asked for it.
        let absent = (!*self.upstream.servers().reach().borrow()).then_some(now);
        let view = self.cache.view();
        let used = self.cache.used(&view);
        let of_entry = |id: &String| {
            let at = view.svid(id).map(|svid| svid.expires_at).or(absent)?;
            Some((view.entries.get(id)?.spiffe_id.to_string(), at))
        };
        let authorities = node.bundle.x509_authorities.iter();
        let bundle = authorities.filter_map(|der| Some(crate::state::validity(std::slice::from_ref(der))?.1)).max();
        let first = |what, ends: &mut dyn Iterator<Item = (String, UnixTime)>| {
            ends.min_by_key(|(_, at)| *at).map(|(id, at)| End { what, id, at })
        };
        [
            first(Ending::EntrySvid, &mut used.keys().filter_map(of_entry)),
            first(Ending::InstanceSvid, &mut self.instances.ends(absent).into_iter()),
            first(Ending::JwtSvid, &mut self.tokens.first_end(now).into_iter()),
            first(Ending::NodeSvid, &mut [(node.id.to_string(), node.expires_at)].into_iter()),
            first(Ending::TrustBundle, &mut bundle.map(|at| (node.bundle.trust_domain.to_string(), at)).into_iter()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What ends the work of an agent first; `None` where none has an identity.
    pub(super) fn budget(&self) -> Option<End> {
        let ends = self.ends().into_iter().filter(|end| end.what != Ending::JwtSvid);
        ends.min_by_key(|end| end.at)
    }

    /// Seconds from now to an end.
    pub(super) fn left(&self, end: &End) -> i64 {
        end.at.since((self.clock)()).max(0)
    }

    /// Says when no server can be asked any more, for how long agents keep working then, and when that is over. Runs until
    /// the stop.
    pub(crate) async fn tell_outages(self: Arc<Self>) {
        let mut reach = self.upstream.servers().reach();
        let work = async {
            while reach.wait_for(|can_ask| !can_ask).await.is_ok() {
                let began = Instant::now();
                tokio::select! {
                    back = reach.wait_for(|can_ask| *can_ask) => drop(back),
                    () = self.tell_outage() => {}
                }
                let seconds = began.elapsed().as_secs();
                tracing::info!(seconds, "a server of the CA can be asked again");
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    /// One line now, and one for each end that comes.
    async fn tell_outage(&self) {
        let problems: Vec<_> =
            self.upstream.servers().list().iter().map(|s| format!("{}: {}", s.address, s.problem)).collect();
        let problems = problems.join("; ");
        while let Some(end) = self.budget() {
            let (seconds, ends, id, at) = (self.left(&end), end.what.name(), &end.id, end.at);
            if seconds == 0 {
                tracing::error!(
                    ends,
                    id,
                    problems,
                    "no server of the CA can be asked, and agents are without identity"
                );
                break;
            }
            tracing::warn!(
                outage_budget_seconds = seconds, ends, id, %at, problems,
                "no server of the CA can be asked; agents keep working until the first of what they hold ends"
            );
            sleep(until((self.clock)(), end.at) + Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    }
}

/// The gauges, counted when they are asked for. The door holds the metrics, so they do not hold the door.
pub(super) struct Outlook(pub Weak<Door>);

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ends {
    ends: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: &'static str,
}

impl fmt::Debug for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlook")
    }
}

impl Collector for Outlook {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(door) = self.0.upgrade() else { return Ok(()) };
        let help = "Time for which agents keep working without the CA, by what ends then";
        let mut rows = encoder.encode_descriptor("outage_budget", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for end in door.ends() {
            rows.encode_family(&Ends { ends: end.what.name() })?.encode_gauge(&door.left(&end))?;
        }
        let servers = door.upstream.servers();
        let list = servers.list();
        let help = "Servers of the CA, by what this node knows of them";
        let mut rows = encoder.encode_descriptor("servers", help, None, MetricType::Gauge)?;
        for state in Condition::ALL {
            let count = list.iter().filter(|server| server.condition == state).count();
            rows.encode_family(&State { state: state.name() })?.encode_gauge(&count)?;
        }
        let help = "Connections made to servers of the CA; attestations have others";
        let made = ConstCounter::new(servers.connections());
        made.encode(encoder.encode_descriptor("server_connections", help, None, MetricType::Counter)?)
    }
}
