use std::path::Path;

use chancery_daemon::{config, pkcs11::pin, shutdown::Shutdown, telemetry};

use crate::config::Config;

/// Threads that serve: each has a stack and an allocator's arena of its own, and a node has better work for its cores.
const MAX_WORKERS: usize = 4;

/// Runs the daemon until it is told to stop.
pub(super) fn run(path: &Path) -> Result<(), String> {
    let config = load(path)?;
    hide_pin(&config)?;
    // The TPM library logs every refusal as an error before we have looked at it; its codes reach our own lines.
    let level = format!("tss_esapi=off,{}", config.log_level);
    let _telemetry = telemetry::init("chancery-attestor", &level, config.log_format)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::from_signals().map_err(|e| e.to_string())?;
        crate::run::run(config, shutdown).await.map_err(|e| e.to_string())
    });
    // A handshake may still wait for the TPM on a blocking thread; it must not hold the process.
    runtime.shutdown_background();
    outcome
}

/// Takes the token's PIN out of the environment, by running this program again. First of all: there is one thread yet.
pub(super) fn hide_pin(config: &Config) -> Result<(), String> {
    let secrets: Vec<&str> = config.pkcs11.iter().filter_map(|pkcs11| pkcs11.token.pin_env.as_deref()).collect();
    pin::leave_environment(&secrets).map_err(|e| format!("cannot hide the PIN: {e}"))
}

/// Loads and checks a configuration.
pub(super) fn load(path: &Path) -> Result<Config, String> {
    let config: Config = config::load(path).map_err(|e| e.to_string())?;
    config.check().map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok(config)
}
