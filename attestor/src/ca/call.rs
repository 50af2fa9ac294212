use std::{future::Future, sync::Arc, time::Duration};

use chancery_daemon::jitter::jittered;
use chancery_sdk::id::TrustDomain;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tonic::{Response, Status, transport::Channel};

use super::{CaError, Denial, Line, Servers, line::Link};
use crate::identity::IdentitySender;

/// Longest time for one call, at however many servers (SPIRE's own limit; spire-wire 3.1).
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// How long a call whose SVID was just superseded waits for the line of the next one.
const SUCCESSION: Duration = Duration::from_secs(2);

/// Something the enrolment task must know, learnt from an ordinary call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// The CA denies the node itself.
    Denied(Denial),
    /// Lost at every server: perhaps the CA refuses our certificate, which TLS 1.3 tells late or never.
    Lost,
}

/// Asks the CA, as this node.
///
/// Cheap to clone. Before the first enrolment, and while the node has no standing, every call is [`CaError::Lost`].
#[derive(Clone)]
pub struct Ca {
    pub(super) domain: TrustDomain,
    servers: Arc<Servers>,
    /// The line of the current node SVID; replaced whole when the SVID rotates.
    line: Arc<watch::Sender<Option<Arc<Line>>>>,
    trouble: mpsc::Sender<Trouble>,
    pub(super) identity: IdentitySender,
}

impl Ca {
    /// A client without a line yet, and the end where its troubles come out.
    pub fn new(
        domain: TrustDomain,
        servers: Arc<Servers>,
        identity: IdentitySender,
    ) -> (Self, mpsc::Receiver<Trouble>) {
        // One slot: troubles are a state to look at, not a list to work through.
        let (trouble, receiver) = mpsc::channel(1);
        (Self { domain, servers, line: Arc::default(), trouble, identity }, receiver)
    }

    /// What is known of the servers.
    pub fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers)
    }

    /// Makes later calls use `line`; `None` ends them. Calls under way go on over the old one, streams begin again.
    pub fn use_line(&self, line: Option<Arc<Line>>) {
        if let Some(old) = self.line.send_replace(line) {
            old.close();
        }
    }

    /// Makes one call, at whichever server answers; and once more where the SVID rotated meanwhile.
    pub(super) async fn call<T, F, Fut>(&self, ask: F) -> Result<T, CaError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        Ok(self.linked(ask).await?.0)
    }

    /// As [`call`](Self::call), with the connection that the answer came over.
    ///
    /// The first call with a new SVID supersedes the old one at the CA a moment before the new line is everybody's.
    pub(super) async fn linked<T, F, Fut>(&self, ask: F) -> Result<(T, Arc<Link>), CaError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let asked = async {
            let mut lines = self.line.subscribe();
            match patiently(|| async { self.line()?.ask(&ask).await }).await {
                Err(CaError::Lost(_)) if lines.has_changed().unwrap_or(false) => self.line()?.ask(&ask).await,
                Err(CaError::Denied(Some(Denial::NotActive))) => {
                    let _ = timeout(SUCCESSION, lines.changed()).await;
                    self.line()?.ask(&ask).await
                }
                other => other,
            }
        };
        let late = |_| CaError::Lost(format!("no answer within {} s", CALL_DEADLINE.as_secs()));
        let answer = timeout(CALL_DEADLINE, asked).await.map_err(late).and_then(|answer| answer);
        match &answer {
            Err(CaError::Denied(Some(denial))) => self.report(Trouble::Denied(*denial)),
            // Who says "not now" has taken our certificate.
            Err(CaError::Lost(_)) if !self.servers.any_refuses() => self.report(Trouble::Lost),
            _ => {}
        }
        answer
    }

    fn line(&self) -> Result<Arc<Line>, CaError> {
        self.line.borrow().clone().ok_or_else(|| CaError::Lost("the node is not attested yet".into()))
    }

    /// A full slot means the enrolment task has not looked yet; it will learn the same then.
    fn report(&self, trouble: Trouble) {
        if self.line.borrow().is_some() {
            let _ = self.trouble.try_send(trouble);
        }
    }
}

/// Asks, and once more when the CA, which has too much to do, says to come: those it told the same come apart.
async fn patiently<T, Fut: Future<Output = Result<T, CaError>>>(ask: impl Fn() -> Fut) -> Result<T, CaError> {
    match ask().await {
        Err(CaError::Busy(wait)) => {
            sleep(wait + jittered(wait)).await;
            ask().await
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_ca_is_asked_once_more_and_not_before_it_said() {
        let (began, asked) = (Instant::now(), Mutex::new(Vec::new()));
        let busy = || {
            asked.lock().unwrap().push(began.elapsed());
            std::future::ready(Err::<(), _>(CaError::Busy(Duration::from_secs(2))))
        };
        assert_eq!(
            patiently(busy).await,
            Err(CaError::Busy(Duration::from_secs(2))),
            "its caller has patience of its own"
        );
        let asked = asked.into_inner().unwrap();
        assert!(asked.len() == 2 && (Duration::from_secs(2)..=Duration::from_secs(4)).contains(&asked[1]), "{asked:?}");
    }
}
