//! Log lines on standard error, as text or JSON; with the feature `otel`, spans of calls to a collector.

#[cfg(feature = "otel")]
mod otel;

use serde::Deserialize;
use tracing::Span;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Where spans go, as every OpenTelemetry program names it: for example `http://127.0.0.1:4317`, OTLP over gRPC.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// What a process tells of itself; what waits to be sent is sent when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    _exporter: Option<otel::Exporter>,
}

/// Starts logging; `level` is a filter such as `info` or `chancery_ca=debug,info`. A second call changes nothing.
///
/// Where the variable `OTEL_EXPORTER_OTLP_ENDPOINT` is set, spans of calls go there under the name `service`.
///
/// # Errors
/// One line when `level` is no filter, or spans cannot go there.
pub fn init(service: &'static str, level: &str, format: LogFormat) -> Result<Telemetry, String> {
    start(service, level, format, std::env::var(ENDPOINT).ok().filter(|text| !text.is_empty()).as_deref())
}

/// The same, with the endpoint given.
///
/// # Errors
/// As [`init`].
pub fn start(
    service: &'static str,
    level: &str,
    format: LogFormat,
    endpoint: Option<&str>,
) -> Result<Telemetry, String> {
    let filter: Targets = level.parse().map_err(|e| format!("log_level '{level}': {e}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Json => lines.json().with_filter(filter.clone()).boxed(),
        LogFormat::Text => lines.with_ansi(false).with_filter(filter.clone()).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otel")]
    if let Some(endpoint) = endpoint {
        let (layer, exporter) = otel::export(service, endpoint)?;
        let _ = registry.with(layer.with_filter(filter)).try_init();
        return Ok(Telemetry { _exporter: Some(exporter) });
    }
    let _ = registry.try_init();
    if cfg!(not(feature = "otel")) && endpoint.is_some() {
        tracing::warn!("{ENDPOINT} is set, and {service} was built without the feature otel: no spans are sent");
    }
    Ok(Telemetry::default())
}

/// The span of a call that came in, below its caller's where the headers name one (W3C `traceparent`). Nothing is recorded
/// without the feature `otel`.
pub fn call_span(method: &str, headers: &http::HeaderMap) -> Span {
    #[cfg(feature = "otel")]
    return otel::call_span(method, headers);
    #[cfg(not(feature = "otel"))]
    {
        let _ = (method, headers);
        Span::none()
    }
}
