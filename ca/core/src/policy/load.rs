//! From TOML to policies, refusing every file that would leave a quoted PCR unchecked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use thiserror::Error;

use super::{FirmwareRange, FirstUse, LogRules, NONE, OnChange, Policy, PolicySet, StateRules};
use crate::evidence::tpm::Manufacturer;

/// Largest policy file in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// PCRs a quote says nothing with: 10 changes all the time (IMA), 16 and 23 are resettable.
const USELESS_PCRS: [u32; 3] = [10, 16, 23];

/// Why a policy file does not load.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PolicyError {
    /// A rule that cannot be meant.
    #[error("policy '{policy}': {what}")]
    Rule {
        /// Its name.
        policy: String,
        /// What is wrong.
        what: String,
    },
    /// Not TOML of the form.
    #[error("policy file: {0}")]
    Toml(String),
    /// Above [`MAX_FILE_BYTES`].
    #[error("policy file of {0} bytes exceeds {MAX_FILE_BYTES} bytes")]
    TooLarge(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tpm: Section,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    policy: Vec<RawPolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    name: String,
    #[serde(default, rename = "match")]
    matches: RawMatch,
    bank: String,
    pcrs: Vec<u32>,
    #[serde(default)]
    golden: BTreeMap<String, Vec<String>>,
    log: Option<RawLog>,
    state: Option<RawState>,
    #[serde(default)]
    firmware: RawFirmware,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    manufacturer: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    required: bool,
    secure_boot: Option<On>,
    #[serde(default)]
    allow_dma_protection_off: bool,
    db_certs_sha256: Option<Vec<String>>,
    boot_apps_sha256: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    On,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    first_use: RawFirstUse,
    on_change: RawOnChange,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFirstUse {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnChange {
    Alert,
    Deny,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFirmware {
    #[serde(default)]
    deny: Vec<String>,
}

impl PolicySet {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`]: unknown keys, values that do not parse, and PCRs that no rule covers.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(PolicyError::TooLarge(text.len()));
        }
        let file: File = toml::from_str(text).map_err(|e| PolicyError::Toml(e.to_string()))?;
        let mut names = BTreeSet::new();
        let mut policies = Vec::new();
        for raw in file.tpm.policy {
            let name = raw.name.clone();
            let refuse = |what: String| PolicyError::Rule { policy: name.clone(), what };
            if !names.insert(raw.name.clone()) {
                return Err(refuse("the name is used twice".into()));
            }
            policies.push(policy(raw).map_err(refuse)?);
        }
        Ok(Self { policies })
    }
}

fn policy(raw: RawPolicy) -> Result<Policy, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if raw.name.is_empty() || raw.name.len() > 64 || raw.name == NONE || !raw.name.bytes().all(plain) {
        return Err(format!("the name must be 1 to 64 of a-z, A-Z, 0-9, '-', '_', '.', and not '{NONE}'"));
    }
    if raw.bank != "sha256" {
        return Err(format!("bank '{}' is not sha256", raw.bank));
    }
    let manufacturer: Option<Manufacturer> =
        raw.matches.manufacturer.map(|text| text.parse()).transpose().map_err(|e| format!("{e}"))?;
    let parsed: Result<Vec<FirmwareRange>, _> = raw.firmware.deny.iter().map(|text| text.parse()).collect();
    let policy = Policy {
        name: raw.name,
        manufacturer,
        model: raw.matches.model,
        pcrs: pcrs(&raw.pcrs)?,
        golden: golden(&raw.golden)?,
        log: raw.log.map(log).transpose()?.unwrap_or_default(),
        state: raw.state.map(state),
        firmware_deny: parsed.map_err(|e| e.to_string())?,
    };
    covered(&policy)?;
    Ok(policy)
}

fn pcrs(list: &[u32]) -> Result<BTreeSet<u32>, String> {
    if let Some(bad) = list.iter().find(|pcr| **pcr >= 24 || USELESS_PCRS.contains(pcr)) {
        return Err(format!("PCR {bad} cannot be required: 0 to 22 without 10 and 16"));
    }
    let set: BTreeSet<u32> = list.iter().copied().collect();
    if set.is_empty() || set.len() != list.len() {
        return Err("pcrs is empty or names a PCR twice".into());
    }
    Ok(set)
}

fn golden(raw: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<u32, BTreeSet<[u8; 32]>>, String> {
    let mut out = BTreeMap::new();
    for (pcr, values) in raw {
        let index: u32 = pcr.parse().map_err(|_| format!("golden '{pcr}' is no PCR"))?;
        if values.is_empty() || out.insert(index, digests(values)?).is_some() {
            return Err(format!("golden '{pcr}' is empty or named twice"));
        }
    }
    Ok(out)
}

fn log(raw: RawLog) -> Result<LogRules, String> {
    let rules = LogRules {
        required: raw.required,
        secure_boot: raw.secure_boot.is_some(),
        allow_dma_protection_off: raw.allow_dma_protection_off,
        authorities: raw.db_certs_sha256.as_deref().map(digests).transpose()?,
        boot_apps: raw.boot_apps_sha256.as_deref().map(digests).transpose()?,
    };
    if !rules.required && (rules.secure_boot || rules.authorities.is_some() || rules.boot_apps.is_some()) {
        return Err("rules on the log need log.required = true".into());
    }
    if rules.authorities.is_some() && !rules.secure_boot {
        return Err("db_certs_sha256 says nothing without secure_boot = \"on\"".into());
    }
    Ok(rules)
}

fn state(raw: RawState) -> StateRules {
    StateRules {
        first_use: match raw.first_use {
            RawFirstUse::Allow => FirstUse::Allow,
            RawFirstUse::Deny => FirstUse::Deny,
        },
        on_change: match raw.on_change {
            RawOnChange::Alert => OnChange::Alert,
            RawOnChange::Deny => OnChange::Deny,
        },
    }
}

fn digests(list: &[String]) -> Result<BTreeSet<[u8; 32]>, String> {
    list.iter()
        .map(|text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest)
                .map_err(|_| format!("'{}' is not 64 hex digits", text.chars().take(80).collect::<String>()))?;
            Ok(digest)
        })
        .collect()
}

/// Each rule has its PCR quoted, and each quoted PCR has its rule.
fn covered(policy: &Policy) -> Result<(), String> {
    let by_log = [4, 7].into_iter().filter(|pcr| policy.log.covers(*pcr));
    if let Some(pcr) = policy.golden.keys().copied().chain(by_log).find(|pcr| !policy.pcrs.contains(pcr)) {
        return Err(format!("a rule needs PCR {pcr}, which pcrs does not name"));
    }
    match policy.watched().next() {
        Some(pcr) if policy.state.is_none() => {
            Err(format!("PCR {pcr} is named but no rule covers it: add golden, log or state"))
        }
        _ => Ok(()),
    }
}
