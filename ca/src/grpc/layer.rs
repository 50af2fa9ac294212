//! The gate as a layer on both doors: no handler runs without a caller; every call is counted.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use chancery_daemon::telemetry::call_span;
use futures_util::future::BoxFuture;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument;

use super::wire;
use crate::{State, gate, peer::Peer};

/// Puts the gate before a door's services.
#[derive(Clone)]
pub struct GateLayer {
    state: Arc<State>,
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    state: Arc<State>,
}

impl GateLayer {
    /// A gate that asks `state`.
    pub fn new(state: &Arc<State>) -> Self {
        Self { state: Arc::clone(state) }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, state: Arc::clone(&self.state) }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The clone is not ready yet; the one that was polled is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let state = Arc::clone(&self.state);
        let (began, method) = (Instant::now(), request.uri().path().to_string());
        // Callers make no names of their own.
        let known = if gate::who(&method).is_some() { method.clone() } else { "unknown".to_owned() };
        let span = call_span(&known, request.headers());
        let gated = async move {
            let decision = match request.extensions().get::<Arc<Peer>>() {
                Some(peer) => gate::authorize(&state, peer, &method).await,
                None => Err(gate::Denial::NotAllowed),
            };
            let response = match decision {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await?
                }
                Err(denial) => wire::denial(denial).into_http(),
            };
            state.metrics.called(&known, &code(&response), began.elapsed().as_secs_f64());
            Ok(response)
        };
        Box::pin(gated.instrument(span))
    }
}

/// The code of a call that ended with its headers; streams end later and count as begun well.
fn code(response: &http::Response<Body>) -> String {
    response.headers().get("grpc-status").and_then(|v| v.to_str().ok()).unwrap_or("0").to_string()
}
