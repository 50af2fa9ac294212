//! `run`, `migrate` and `restore-accept`: the commands that need no running CA.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

use chancery_daemon::{
    hardening,
    pkcs11::pin,
    shutdown::Shutdown,
    telemetry::{self, Telemetry},
};

use super::{Common, Failure, Output, write};
use crate::{config::Config, mark::Keeper, store::Store};

/// Runs the CA until it is told to stop.
///
/// # Errors
/// [`Failure`], one line that says what to do.
pub fn run(common: &Common) -> Result<(), Failure> {
    let config = config(common)?;
    let variables = [
        config.keys.pkcs11.as_ref().and_then(|token| token.pin_env.as_deref()),
        config.upstream.pkcs11.as_ref().and_then(|key| key.pin_env.as_deref()),
    ];
    let secrets: Vec<&str> = variables.into_iter().flatten().collect();
    pin::leave_environment(&secrets).map_err(|e| Failure::refused(format!("cannot hide the PIN: {e}")))?;
    hardening::make_non_dumpable().map_err(|e| Failure::refused(format!("cannot forbid core dumps: {e}")))?;
    let _telemetry = logging(&config)?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::from_signals().map_err(|e| Failure::refused(format!("signals: {e}")))?;
        crate::run(config, shutdown).await.map_err(|e| Failure::refused(e.to_string()))
    })
}

/// Brings the database to this program's schema.
///
/// # Errors
/// [`Failure`]; the schema is as before then.
pub fn migrate(common: &Common) -> Result<(), Failure> {
    let config = config(common)?;
    if config.database.is_none() {
        // The default database lies in the data folder, which a first `migrate` finds missing.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
        made.map_err(|e| Failure::refused(format!("data_dir = {:?}: {e}", config.data_dir)))?;
    }
    let done = runtime()?.block_on(Store::migrate(&config.database()));
    let done = done.map_err(|e| Failure::refused(crate::RunError::from(e).to_string()))?;
    let text = match common.output {
        Output::Json => format!("{{\"from\":\"{}\",\"to\":\"{}\"}}\n", done.from, done.to),
        Output::Pretty if done.from == done.to => format!("Schema is at version {}\n", done.to),
        Output::Pretty => format!("Schema brought from version {} to {}\n", done.from, done.to),
    };
    write(text.as_bytes())
}

/// Accepts a database that is older than what this server saw of it: a new epoch begins.
///
/// # Errors
/// [`Failure`]; the database is as before then.
pub fn restore_accept(common: &Common) -> Result<(), Failure> {
    let config = config(common)?;
    let server = crate::run::server_id(&config).map_err(|e| Failure::refused(e.to_string()))?;
    let seen = Keeper::new(&config.data_dir).read().map_err(|e| Failure::refused(e.to_string()))?;
    let tree = crate::log::last_shown(&config).map_err(|e| Failure::refused(format!("log.dir: {e}")))?;
    let done = runtime()?.block_on(Store::accept_restore(&config.database(), &server, seen.as_ref(), tree));
    let done = done.map_err(|e| Failure::refused(crate::RunError::from(e).to_string()))?;
    let text = match common.output {
        Output::Json => {
            let json = serde_json::json!({
                "epoch": done.epoch.to_string(),
                "instances": done.instances.to_string(),
                "nodes": done.nodes.to_string(),
                "tokens": done.tokens.to_string(),
            });
            format!("{json}\n")
        }
        Output::Pretty => format!(
            "Epoch {} begins: {} nodes must attest again, {} instances ended, {} join tokens deleted\n",
            done.epoch, done.nodes, done.instances, done.tokens
        ),
    };
    write(text.as_bytes())
}

/// The configuration, which these commands need.
///
/// # Errors
/// [`Failure::Usage`] without `--config`, [`Failure::Refused`] with the key that is wrong.
pub fn config(common: &Common) -> Result<Config, Failure> {
    let path = common.config.as_ref().ok_or_else(|| Failure::usage("--config FILE is missing"))?;
    Config::load(path).map_err(|e| Failure::refused(e.to_string()))
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::refused(format!("cannot start: {e}")))
}

fn logging(config: &Config) -> Result<Telemetry, Failure> {
    telemetry::init("chancery-ca", &config.log_level, config.log_format).map_err(Failure::refused)
}
