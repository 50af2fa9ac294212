//! Many nodes, each with a connection of its own, in this process or in several.
//!
//! A fleet is given orders and answers with what they came to. Each process has a crew; a crew of another process gets
//! the same orders as lines on its standard input.

mod arrivals;
mod child;
mod crew;
mod member;
mod order;
mod poll;
mod rotation;
mod watch;

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use child::Child;
pub use child::obey;
use crew::Crew;
pub use order::{Answer, Order, Polling, Setting};

use crate::{capacity::Spread, site::Site};

/// All nodes of a run.
pub struct Fleet {
    crews: Vec<Place>,
}

/// Where a crew is.
enum Place {
    Child(Child),
    Here(Box<Crew>, CancellationToken),
}

impl Fleet {
    /// Crews for as many nodes as there are tokens; nothing is attested yet.
    ///
    /// # Errors
    /// A process does not start.
    pub async fn muster(site: &Site, server: SocketAddr, spread: &Spread, nodes: usize) -> Result<Self, String> {
        let per_crew = nodes.div_ceil(spread.processes).max(1);
        let mut crews = Vec::new();
        for base in (0..nodes).step_by(per_crew) {
            let setting = Setting {
                server,
                domain: site.domain.clone(),
                bundle_pem: site.dialer.trusted_pem(),
                base,
                sources: spread.sources.clone(),
            };
            crews.push(match spread.processes {
                1 => Place::Here(Box::new(Crew::new(&setting)?), site.stop.clone()),
                _ => Place::Child(Child::start(&setting, site.stop.clone()).await?),
            });
        }
        Ok(Self { crews })
    }

    /// Gives every crew the order that `order` makes for it, and adds up the answers.
    ///
    /// # Errors
    /// A crew is gone.
    pub async fn order(&mut self, order: impl Fn(usize) -> Order) -> Result<Answer, String> {
        let each = self.crews.iter_mut().enumerate().map(|(index, place)| place.obey(order(index)));
        let mut whole = Answer::default();
        for answer in join_all(each).await {
            whole.merge(answer?);
        }
        Ok(whole)
    }

    /// Gives every crew the same order.
    ///
    /// # Errors
    /// A crew is gone.
    pub async fn all(&mut self, order: Order) -> Result<Answer, String> {
        self.order(|_| order.clone()).await
    }

    /// Attests with these tokens, each crew with its share, `parallel` at once in the whole fleet.
    ///
    /// # Errors
    /// A crew is gone.
    pub async fn attest(&mut self, tokens: &[String], parallel: usize) -> Result<Answer, String> {
        let shares = tokens.len().div_ceil(self.crews.len()).max(1);
        let parallel = parallel.div_ceil(self.crews.len());
        let share = |index: usize| tokens.chunks(shares).nth(index).unwrap_or_default().to_vec();
        self.order(|index| Order::Attest { tokens: share(index), parallel }).await
    }

    /// Connects every node, `parallel` at once in the whole fleet.
    ///
    /// # Errors
    /// A crew is gone.
    pub async fn connect(&mut self, parallel: usize) -> Result<Answer, String> {
        let parallel = parallel.div_ceil(self.crews.len());
        self.all(Order::Connect { parallel }).await
    }
}

impl Place {
    async fn obey(&mut self, order: Order) -> Result<Answer, String> {
        match self {
            Self::Child(child) => child.order(&order).await,
            Self::Here(crew, stop) => Ok(crew.obey(order, stop).await),
        }
    }
}

/// The address node number `index` of `sources` comes from.
fn source_of(sources: &[IpAddr], index: usize) -> Option<IpAddr> {
    sources.get(index % sources.len().max(1)).copied()
}
