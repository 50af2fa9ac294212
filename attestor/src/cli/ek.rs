use std::{path::Path, time::Duration};

use chancery_proto::chancery::attestor::v1::End;
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Output, local::status, run::load};
use crate::{
    doctor::{self, EndorsementKey, Finding},
    tpm::{Bus, Options},
};

/// How long the attestor on this machine is asked what it holds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the endorsement keys, the preferred one first.
pub(super) fn ek(config: Option<&Path>, tcti: &str, output: Output) -> Result<(), String> {
    let options = match config {
        Some(path) => Options::from_config(&load(path)?).map_err(|e| e.to_string())?,
        None => Options {
            tcti: tcti.parse().map_err(|e: crate::tpm::TpmError| e.to_string())?,
            trust_domain: String::new(),
            endorsement_auth: Zeroizing::default(),
            owner_auth: Zeroizing::default(),
            bus: Bus::Internal,
        },
    };
    let keys = doctor::endorsement_keys(options).map_err(|e| e.to_string())?;
    match output {
        Output::Json => println!("{}", json!({ "endorsement_keys": keys })),
        Output::Pretty => keys.iter().for_each(print_key),
    }
    Ok(())
}

fn print_key(key: &EndorsementKey) {
    println!("EK hash     : {}", key.hash);
    println!("Algorithm   : {}", key.kind);
    println!("Certificate : {}", if key.has_certificate { "yes" } else { "no" });
    println!("Preferred   : {}\n", if key.preferred { "yes; enrol this one" } else { "no" });
}

/// Prints the attestation key of the token, making it where there is none yet.
pub(super) fn key(config: &Path, output: Output) -> Result<(), String> {
    let config = load(config)?;
    let table = config.pkcs11.as_ref().ok_or("the configuration has no table [pkcs11]")?;
    let key = doctor::token_key(table, &config).map_err(|e| e.to_string())?;
    match output {
        Output::Json => println!("{}", json!({ "attestation_key": key })),
        Output::Pretty => {
            println!("Key hash    : {}", key.hash);
            println!("Algorithm   : {}", key.kind);
            println!("Token       : {}", key.token);
            print!("{}", key.public_key);
        }
    }
    Ok(())
}

/// Prints what the machine has; fails where something needed lacks.
pub(super) fn doctor(config: &Path, output: Output) -> Result<(), String> {
    let config = load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (mut findings, running) = runtime
        .block_on(async { (doctor::examine(&config).await, timeout(PATIENCE, status(&config.admin_socket)).await) });
    let budget = running.ok().flatten().and_then(|status| status.outage_budget);
    findings.extend(budget.as_ref().map(|end| doctor::outage_budget(&end.what, &end.id, end.seconds_left)));
    match output {
        Output::Json => println!("{}", json!({ "findings": findings, "outage_budget": budget.as_ref().map(end_json) })),
        Output::Pretty => findings.iter().for_each(print_finding),
    }
    let mut lacking: Vec<&str> =
        findings.iter().filter(|finding| finding.required).map(|finding| finding.name).collect();
    lacking.dedup(); // one for each server
    if lacking.is_empty() { Ok(()) } else { Err(format!("the attestor cannot work: {}", lacking.join(", "))) }
}

fn end_json(end: &End) -> Value {
    json!({
        "expires_at": end.expires_at.to_string(),
        "id": end.id,
        "seconds_left": end.seconds_left.to_string(),
        "what": end.what,
    })
}

fn print_finding(finding: &Finding) {
    println!("{:4} {:12} {}", if finding.ok { "ok" } else { "lack" }, finding.name, finding.found);
    if !finding.cost.is_empty() {
        println!("     {:12} {}", "", finding.cost);
    }
}
