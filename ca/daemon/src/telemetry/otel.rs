//! Spans by OTLP over gRPC.

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::runtime::{Builder, Runtime};
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

/// Sends spans from a runtime of its own: the daemon's need not be there yet, and may be gone already.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    runtime: Option<Runtime>,
}

/// The layer that records spans, and who sends them.
pub(super) fn export<S>(
    service: &'static str,
    endpoint: &str,
) -> Result<(OpenTelemetryLayer<S, SdkTracer>, Exporter), String>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let say = |e: &dyn std::fmt::Display| format!("spans to {endpoint}: {e}");
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("spans").enable_all().build();
    let runtime = runtime.map_err(|e| say(&e))?;
    let inside = runtime.enter();
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(|e| say(&e))?;
    drop(inside);
    let resource = Resource::builder().with_service_name(service).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(service));
    Ok((layer, Exporter { provider, runtime: Some(runtime) }))
}

pub(super) fn call_span(method: &str, headers: &http::HeaderMap) -> Span {
    let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server", rpc.system = "grpc");
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // An error says that nothing records the span.
    let _ = span.set_parent(parent);
    span
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(problem) = self.provider.shutdown() {
            eprintln!("the last spans were not sent: {problem}");
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
