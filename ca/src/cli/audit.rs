//! `audit verify` and `audit key`: the record, without a running CA.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use chancery_core::log::note;
use serde_json::json;

use super::{Answer, Common, Failure, print, serve};
use crate::{
    log::{
        files,
        key::LogKey,
        origin,
        verify::{self, Finding, Report},
    },
    store::{Store, StoreError},
};

/// Events between two words of progress.
const STEP: u64 = 100_000;
/// Name of this reader among the servers; it writes nothing.
pub(super) const READER: &str = "audit";

/// Prints the public key, under the name of the newest epoch's log.
///
/// # Errors
/// [`Failure`].
pub fn key(common: &Common) -> Result<(), Failure> {
    let config = serve::config(common)?;
    let path = config.log_key_file();
    let key = LogKey::read(&path).map_err(|e| Failure::refused(e.to_string()))?;
    let key = key.ok_or_else(|| {
        Failure::refused(format!("{}: no key yet; it is made when the CA first runs", path.display()))
    })?;
    let epoch = serve::runtime()?.block_on(async {
        let store = Store::open(&config.database(), READER).await?;
        let end = store.log_end().await?;
        store.close().await;
        Ok::<_, StoreError>(end.epoch)
    });
    let epoch = epoch.map_err(|e| Failure::refused(crate::RunError::from(e).to_string()))?;
    let key = key.verifier(&origin(&config, epoch)).map_err(|e| Failure::refused(e.to_string()))?.to_string();
    print(Answer::new(json!({ "key": key }), key), common.output)
}

/// Compares database, tiles and checkpoints; refused where they differ.
///
/// # Errors
/// [`Failure`].
pub fn verify(common: &Common, since: Option<&Path>) -> Result<(), Failure> {
    let config = serve::config(common)?;
    let since = since.map(|path| {
        files::bounded(path, note::MAX_BYTES).map_err(|e| Failure::usage(format!("--since {}: {e}", path.display())))
    });
    let since = since.transpose()?;
    let report = serve::runtime()?.block_on(async {
        let store = Store::open(&config.database(), READER).await?;
        let report = verify::verify(&store, &config, since.as_deref(), progress("verified")).await;
        store.close().await;
        report
    });
    let report = report.map_err(|e| Failure::refused(e.to_string()))?;
    print(answer(&report), common.output)
}

/// A word to people on stderr, now and then.
pub(super) fn progress(done: &'static str) -> impl Fn(u64) {
    let told = std::cell::Cell::new(0);
    move |events| {
        if events / STEP > told.get() {
            told.set(events / STEP);
            let end = if std::io::stderr().is_terminal() { '\r' } else { '\n' };
            // Nobody reads it: fine.
            let _ = write!(std::io::stderr(), "{events} events {done}{end}");
        }
    }
}

fn answer(report: &Report) -> Answer {
    let epochs = report.epochs.iter().map(|epoch| {
        json!({
                "epoch": epoch.epoch.to_string(),
                "events": epoch.events.to_string(),
                "vouched": epoch.vouched.to_string(),
                "checkpoints": epoch.checkpoints.to_string(),
        })
    });
    let findings = report.findings.iter().map(|finding| {
        json!({
                "epoch": finding.epoch.to_string(),
                "event": finding.event.map(|event| event.to_string()),
                "what": finding.what,
        })
    });
    let json = json!({
        "verified": report.findings.is_empty(),
        "epochs": epochs.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
        "notes": report.notes,
    });
    let pretty = pretty(report);
    match report.findings.first() {
        None => Answer::new(json, pretty),
        Some(first) => {
            let why =
                format!("the record was altered: {}; keep everything as it is, and see docs/RECORD.md", told(first));
            Answer::refused(json, pretty, Failure::refused(why))
        }
    }
}

fn pretty(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for epoch in &report.epochs {
        lines.push(format!(
            "Epoch {}: {} events judged, {} checkpoints, {} events vouched for",
            epoch.epoch, epoch.events, epoch.checkpoints, epoch.vouched
        ));
    }
    lines.extend(report.notes.iter().map(|note| format!("Note: {note}")));
    lines.extend(report.findings.iter().map(|finding| format!("FOUND: {}", told(finding))));
    if report.findings.is_empty() {
        lines.push("The record is whole as far as it can be seen".into());
    }
    lines.join("\n")
}

fn told(finding: &Finding) -> String {
    match finding.event {
        Some(event) => format!("epoch {}, event {event}: {}", finding.epoch, finding.what),
        None => format!("epoch {}: {}", finding.epoch, finding.what),
    }
}
