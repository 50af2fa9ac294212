use std::{future::Future, sync::Arc, time::Duration};

use chancery_sdk::id::TrustDomain;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Response, Status, transport::Channel};

use super::{CaError, Denial};
use crate::identity::IdentitySender;

/// Longest time for one call, its retry included (SPIRE's own limit; spire-wire 3.1).
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// How long a call whose SVID was just superseded waits for the channel of the next one.
const SUCCESSION: Duration = Duration::from_secs(2);

/// Something the enrolment task must know, learnt from an ordinary call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// The CA denies the node itself.
    Denied(Denial),
    /// Lost twice in a row: perhaps the CA refuses our certificate, which TLS 1.3 tells late or never.
    LostTwice,
}

/// Asks the CA, as this node.
///
/// Cheap to clone. Before the first enrolment, and while the node has no standing, every call is [`CaError::Lost`].
#[derive(Clone)]
pub struct Ca {
    pub(super) domain: TrustDomain,
    /// The channel that uses the current node SVID; replaced whole when the SVID rotates.
    channel: Arc<watch::Sender<Option<Channel>>>,
    trouble: mpsc::Sender<Trouble>,
    pub(super) identity: IdentitySender,
}

impl Ca {
    /// A client without a channel yet, and the end where its troubles come out.
    pub fn new(domain: TrustDomain, identity: IdentitySender) -> (Self, mpsc::Receiver<Trouble>) {
        // One slot: troubles are a state to look at, not a list to work through.
        let (trouble, receiver) = mpsc::channel(1);
        (Self { domain, channel: Arc::default(), trouble, identity }, receiver)
    }

    /// Makes later calls use `channel`; `None` ends them. Streams and calls under way go on over the old one.
    pub fn use_channel(&self, channel: Option<Channel>) {
        self.channel.send_replace(channel);
    }

    /// Makes one call, and a second one where the transport was lost or the SVID rotated meanwhile.
    ///
    /// The first call after a GOAWAY or a broken connection always fails once; the channel then dials anew. The first
    /// call with a new SVID supersedes the old one at the CA a moment before the new channel is everybody's.
    pub(super) async fn call<T, F, Fut>(&self, ask: F) -> Result<T, CaError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let twice = async {
            let mut channels = self.channel.subscribe();
            match self.once(&ask).await {
                Err(CaError::Lost(_)) => self.once(&ask).await,
                Err(CaError::Denied(Some(Denial::NotActive))) => {
                    let _ = timeout(SUCCESSION, channels.changed()).await;
                    self.once(&ask).await
                }
                other => other,
            }
        };
        let late = |_| CaError::Lost(format!("no answer within {} s", CALL_DEADLINE.as_secs()));
        let answer = timeout(CALL_DEADLINE, twice).await.map_err(late).and_then(|answer| answer);
        match &answer {
            Err(CaError::Denied(Some(denial))) => self.report(Trouble::Denied(*denial)),
            Err(CaError::Lost(_)) => self.report(Trouble::LostTwice),
            _ => {}
        }
        answer
    }

    async fn once<T, F, Fut>(&self, ask: &F) -> Result<T, CaError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.channel.borrow().clone();
        let Some(channel) = channel else {
            return Err(CaError::Lost("the node is not attested yet".into()));
        };
        Ok(ask(channel).await?.into_inner())
    }

    /// A full slot means the enrolment task has not looked yet; it will learn the same then.
    fn report(&self, trouble: Trouble) {
        if self.channel.borrow().is_some() {
            let _ = self.trouble.try_send(trouble);
        }
    }
}
