use std::{fmt, sync::Arc, time::Duration};

use chancery_proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types::BundleMask,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

use super::Servers;

/// How long one server may work on one answer where there are others.
const ONE_SERVER: Duration = Duration::from_secs(8);

/// Why the CA gave no answer.
#[derive(Debug)]
pub(super) enum Loss {
    /// The connection ended.
    Broken(String),
    /// A server says "not now".
    NotNow(String),
    /// A server says nothing.
    Silent(String),
}

/// What stands behind the status of a silent server.
#[derive(Debug)]
struct Silence;

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is silent")
    }
}

impl std::error::Error for Silence {}

impl Loss {
    /// What a status says, if it is no answer.
    ///
    /// tonic reports a cut connection as `Unknown` or `Cancelled` with a transport error as source, a failed dial as
    /// `Unavailable`; `Unavailable` from the CA itself, which has no source, means "not now".
    pub(super) fn of(status: &Status) -> Option<Self> {
        let source = std::error::Error::source(status);
        let reason = reason_of(status);
        match (status.code(), source) {
            (_, Some(source)) if source.is::<Silence>() => Some(Self::Silent(reason)),
            (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, None) => Some(Self::NotNow(reason)),
            (
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal,
                Some(_),
            ) => Some(Self::Broken(reason)),
            _ => None,
        }
    }

    /// What happened.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Broken(reason) | Self::NotNow(reason) | Self::Silent(reason) => reason,
        }
    }
}

/// The innermost cause: there tonic hides what happened ("received fatal alert: ..", "connection refused").
fn reason_of(status: &Status) -> String {
    let mut inner: &dyn std::error::Error = status;
    while let Some(source) = inner.source() {
        inner = source;
    }
    // A status shows itself with all its metadata.
    let text = if std::error::Error::source(status).is_some() { inner.to_string() } else { status.message().into() };
    if text.is_empty() { status.code().to_string() } else { text }
}

/// Waits for an answer over `channel` while the server at its other end lives.
///
/// A host that lost its power says nothing, and TCP takes minutes to notice. So where there are other servers, one that
/// leaves a call without an answer is asked a trifle over the same connection, and given up where that too stays without one:
/// within twice [`Servers::patience`], 2 s at first. Whoever is merely slow answers the trifle, and has 8 s.
///
/// # Errors
/// The answer's own status, or one of [`Loss::Silent`].
pub(crate) async fn while_alive<T>(
    servers: &Servers,
    channel: &Channel,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    if servers.len() < 2 {
        return answer.await;
    }
    tokio::select! {
        biased;
        answer = answer => answer,
        () = until_silent(channel, servers.patience()) => Err(silence("the server is silent")),
        () = sleep(ONE_SERVER.max(servers.patience() * 2)) => Err(silence("the server takes too long")),
    }
}

async fn until_silent(channel: &Channel, patience: Duration) {
    let mut rest = patience;
    loop {
        sleep(rest).await;
        let mask = BundleMask::default();
        let trifle = GetBundleRequest { output_mask: Some(mask) };
        // Any answer is a sign of life; a connection that broke has told the call itself.
        if timeout(patience, BundleClient::new(channel.clone()).get_bundle(trifle)).await.is_err() {
            return;
        }
        rest *= 2;
    }
}

fn silence(what: &str) -> Status {
    let mut status = Status::unavailable(what);
    status.set_source(Arc::new(Silence));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_ca_says_is_an_answer() {
        let broken = |code| {
            let mut status = Status::new(code, "transport error");
            status.set_source(Arc::new(std::io::Error::other("connection reset")));
            status
        };
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled] {
            assert!(matches!(Loss::of(&broken(code)), Some(Loss::Broken(reason)) if reason == "connection reset"));
        }
        assert!(matches!(Loss::of(&Status::unavailable("stale view")), Some(Loss::NotNow(why)) if why == "stale view"));
        assert!(matches!(Loss::of(&silence("x")), Some(Loss::Silent(_))));
        for code in [
            Code::PermissionDenied,
            Code::NotFound,
            Code::InvalidArgument,
            Code::FailedPrecondition,
            Code::AlreadyExists,
            Code::ResourceExhausted,
            Code::Unimplemented,
            Code::Internal,
            Code::Unknown,
        ] {
            assert!(Loss::of(&Status::new(code, "said")).is_none(), "{code:?}");
        }
    }
}
