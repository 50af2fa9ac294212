use std::{
    task::{Context, Poll},
    time::Instant,
};

use chancery_daemon::telemetry::call_span;
use futures_util::future::BoxFuture;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;
use tracing::Instrument;

use crate::metrics::WorkloadMetrics;

/// The Workload API with every call counted, refused ones included.
#[derive(Clone)]
pub(super) struct Counted<S> {
    pub inner: S,
    pub metrics: WorkloadMetrics,
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<Body>> for Counted<S>
where
    B: 'static,
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = http::Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (began, method, metrics) = (Instant::now(), method(request.uri().path()), self.metrics.clone());
        let span = call_span(method, request.headers());
        let answer = span.in_scope(|| self.inner.call(request));
        let counted = async move {
            let response = answer.await?;
            // A stream that ends later began well: its end is its caller's, its node's or ours.
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            metrics.called(method, name(code), began.elapsed());
            Ok(response)
        };
        Box::pin(counted.instrument(span))
    }
}

/// The method's name; anything else shares one, so that callers make no labels.
fn method(path: &str) -> &'static str {
    const METHODS: [&str; 7] = [
        "FetchJWTBundles",
        "FetchJWTSVID",
        "FetchWITBundles",
        "FetchWITSVID",
        "FetchX509Bundles",
        "FetchX509SVID",
        "ValidateJWTSVID",
    ];
    let last = path.rsplit('/').next().unwrap_or_default();
    METHODS.into_iter().find(|m| *m == last).unwrap_or("unknown")
}

/// The codes that this door answers with.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "InvalidArgument",
        Code::PermissionDenied => "PermissionDenied",
        Code::Unavailable => "Unavailable",
        Code::Unimplemented => "Unimplemented",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_that_is_none_of_ours_makes_no_label_of_its_own() {
        assert_eq!(method("/SpiffeWorkloadAPI/FetchX509SVID"), "FetchX509SVID");
        assert_eq!(method("/SpiffeWorkloadAPI/FetchX509SVIDs"), "unknown");
        assert_eq!(method(""), "unknown");
    }
}
