//! `audit evidence`: what a node said when it proved itself, by the digest that the record has of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use chancery_core::{crypto::sha256, evidence::exchange};
use clap::Args;
use serde_json::{Value, json};

use super::{Answer, Common, Failure, audit, print, serve};
use crate::store::{Store, StoreError};

/// Name of the document's file.
const DOCUMENT: &str = "evidence.json";

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-ca audit list --socket /run/chancery/ca/admin.sock --output json     the field `evidence` of node.attested
  chancery-ca audit evidence 9f86d081... --config /etc/chancery/ca.toml
  chancery-ca audit evidence 9f86d081... --write /tmp/case-7 --config /etc/chancery/ca.toml")]
pub struct EvidenceArgs {
    /// Hex SHA-256, as the event has it
    digest: String,
    /// Write the document and each message there; the folder is made
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// The document and its messages, each judged by its digest.
struct Found {
    document: Vec<u8>,
    parts: Vec<(&'static str, Vec<u8>)>,
}

/// Prints what is kept, and writes it where that is asked for.
///
/// # Errors
/// [`Failure`]: it is not kept any more, or it is not what the record says.
pub fn run(common: &Common, args: &EvidenceArgs) -> Result<(), Failure> {
    let digest = digest(&args.digest)?;
    let config = serve::config(common)?;
    let found = serve::runtime()?.block_on(async {
        let store = Store::open(&config.database(), audit::READER).await.map_err(|e| told(&e))?;
        let found = read(&store, digest).await;
        store.close().await;
        found
    })?;
    if let Some(dir) = &args.write {
        write(dir, &found).map_err(|e| Failure::refused(format!("--write {}: {e}", dir.display())))?;
    }
    print(answer(&found, args), common.output)
}

fn digest(text: &str) -> Result<[u8; 32], Failure> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| {
        Failure::usage("DIGEST is 64 hex digits: the field `evidence` of a node.attested or node.failed")
    })?;
    Ok(digest)
}

async fn read(store: &Store, digest: [u8; 32]) -> Result<Found, Failure> {
    let document = one(store, "the document", digest).await?;
    let named = exchange::parts(&document).map_err(|e| Failure::refused(format!("the document: {e}")))?;
    let mut parts = Vec::new();
    for (name, digest) in named {
        parts.push((name, one(store, name, digest).await?));
    }
    Ok(Found { document, parts })
}

async fn one(store: &Store, name: &str, digest: [u8; 32]) -> Result<Vec<u8>, Failure> {
    let bytes = store.kept_evidence(digest).await.map_err(|e| told(&e))?.ok_or_else(|| {
        let digest = hex::encode(digest);
        Failure::refused(format!(
            "{name} ({digest}) is not here: it is kept for `log.evidence_kept`, of each node at most once a minute"
        ))
    })?;
    if sha256(&[&bytes]) == digest {
        return Ok(bytes);
    }
    Err(Failure::refused(format!(
        "{name} was altered: its digest is not {}; keep everything as it is, and see docs/RECORD.md",
        hex::encode(digest)
    )))
}

fn told(error: &StoreError) -> Failure {
    Failure::refused(format!("database: {error}"))
}

fn write(dir: &Path, found: &Found) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join(DOCUMENT), &found.document)?;
    found.parts.iter().try_for_each(|(name, bytes)| fs::write(dir.join(format!("{name}.bin")), bytes))
}

fn answer(found: &Found, args: &EvidenceArgs) -> Answer {
    let document: Value = serde_json::from_slice(&found.document).unwrap_or_default();
    let sizes: serde_json::Map<_, _> =
        found.parts.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes.len().to_string()))).collect();
    let kind = document.get("type").and_then(Value::as_str).unwrap_or_default();
    let mut lines = vec![format!("Evidence of type {kind}, every part as its digest says")];
    lines.extend(found.parts.iter().map(|(name, bytes)| format!("  {name:<10}: {} bytes", bytes.len())));
    if let Some(dir) = &args.write {
        lines.push(format!("Written to {}", dir.display()));
    }
    Answer::new(json!({ "document": document, "bytes": sizes }), lines.join("\n"))
}
