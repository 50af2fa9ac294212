//! What the boot state of a node with a TPM must be, as an operator's TOML file says.
//!
//! Order: golden values, log rules, state rules. Every PCR a policy names is covered by a rule, or the file
//! does not load: nothing is quoted and then not looked at.

pub mod evaluate;
pub mod firmware;
pub mod learn;
pub mod load;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use evaluate::{Facts, Outcome, RuleVerdict, evaluate};
pub use firmware::FirmwareRange;
pub use learn::learn;
pub use load::PolicyError;

use crate::evidence::tpm::{Manufacturer, trust::matches_pattern};

/// Name of the built-in policy; it gives no `tpm:policy` selector.
pub const NONE: &str = "none";

/// The policies of one file, or the built-in one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicySet {
    policies: Vec<Policy>,
}

impl Default for PolicySet {
    /// Without a policy file: one policy for every TPM, quoting PCRs 0 to 7 and asking nothing of them.
    fn default() -> Self {
        let none = Policy {
            name: NONE.into(),
            manufacturer: None,
            model: None,
            pcrs: (0..8).collect(),
            golden: BTreeMap::new(),
            log: LogRules::default(),
            state: None,
            firmware_deny: Vec::new(),
        };
        Self { policies: vec![none] }
    }
}

impl PolicySet {
    /// The first policy that matches; `None` where the file has none for this TPM.
    ///
    /// A TPM without a verified certificate has neither manufacturer nor model: only a policy that matches
    /// every TPM covers it.
    pub fn choose(&self, manufacturer: Option<Manufacturer>, model: Option<&str>) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.covers(manufacturer, model))
    }

    /// All, in the order of the file.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }
}

/// Rules for the TPMs it matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) manufacturer: Option<Manufacturer>,
    pub(crate) model: Option<String>,
    pub(crate) pcrs: BTreeSet<u32>,
    pub(crate) golden: BTreeMap<u32, BTreeSet<[u8; 32]>>,
    pub(crate) log: LogRules,
    pub(crate) state: Option<StateRules>,
    pub(crate) firmware_deny: Vec<FirmwareRange>,
}

impl Policy {
    /// Its name, as in `tpm:policy:<name>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 PCRs to quote.
    pub fn pcrs(&self) -> &BTreeSet<u32> {
        &self.pcrs
    }

    /// A node without an event log fails it.
    pub fn log_required(&self) -> bool {
        self.log.required
    }

    fn covers(&self, manufacturer: Option<Manufacturer>, model: Option<&str>) -> bool {
        let maker = self.manufacturer.is_none_or(|wanted| manufacturer == Some(wanted));
        let part = self.model.as_deref().is_none_or(|pattern| model.is_some_and(|m| matches_pattern(pattern, m)));
        maker && part
    }

    /// PCRs that only a state rule watches.
    pub(crate) fn watched(&self) -> impl Iterator<Item = u32> + '_ {
        self.pcrs.iter().copied().filter(|pcr| !self.golden.contains_key(pcr) && !self.log.covers(*pcr))
    }
}

/// Rules on the replayed event log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LogRules {
    pub(crate) required: bool,
    pub(crate) secure_boot: bool,
    pub(crate) allow_dma_protection_off: bool,
    pub(crate) authorities: Option<BTreeSet<[u8; 32]>>,
    pub(crate) boot_apps: Option<BTreeSet<[u8; 32]>>,
}

impl LogRules {
    /// Secure boot and its authorities are PCR 7, boot programs are PCR 4.
    pub(crate) fn covers(&self, pcr: u32) -> bool {
        match pcr {
            4 => self.boot_apps.is_some(),
            7 => self.secure_boot,
            _ => false,
        }
    }
}

/// What happens to PCRs that have no other rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StateRules {
    pub(crate) first_use: FirstUse,
    pub(crate) on_change: OnChange,
}

/// A node that was not seen before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FirstUse {
    Allow,
    Deny,
}

/// A boot state other than the last accepted one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnChange {
    Alert,
    Deny,
}
