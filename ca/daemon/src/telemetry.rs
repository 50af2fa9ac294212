//! Log lines on standard error, as text or JSON.

use serde::Deserialize;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

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

/// Starts logging; `level` is a filter such as `info` or `chancery_ca=debug,info`. A second call changes nothing.
///
/// # Errors
/// One line when `level` is no filter.
pub fn init(level: &str, format: LogFormat) -> Result<(), String> {
    let filter: Targets = level.parse().map_err(|e| format!("log_level '{level}': {e}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
    };
    Ok(())
}
