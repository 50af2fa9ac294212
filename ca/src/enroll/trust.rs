//! What attestation trusts: anchors from the store, policies from the file; swapped whole.

use std::{collections::BTreeSet, io, ops::Deref, path::PathBuf};

use chancery_core::{
    evidence::tpm::{self, Allowed, Manufacturer},
    policy::{PolicyError, PolicySet},
};
use thiserror::Error;

use crate::{
    config::{Config, Enrol},
    store::{Anchor, Store, StoreError},
};

/// Anchors, enrolment and policies in force.
#[derive(Debug)]
pub struct Trust {
    tpm: tpm::Trust,
}

/// How much was loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// Manufacturer CAs.
    pub anchors: usize,
    /// Measured-boot policies.
    pub policies: usize,
}

/// Why anchors or policies cannot be used; what was in force stays.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A key of the configuration.
    #[error("{key}: {problem}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The policy file does not say what it must.
    #[error("tpm.policy_file = \"{path}\": {source}", path = path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PolicyError,
    },
    /// The policy file cannot be read.
    #[error("tpm.policy_file = \"{path}\": {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("anchors: {0}")]
    Store(#[from] StoreError),
}

impl Trust {
    /// Reads anchors and policies.
    ///
    /// # Errors
    /// [`TrustError`], one line.
    pub async fn load(config: &Config, store: &Store) -> Result<Self, TrustError> {
        let anchors = store.anchors().await?.iter().filter_map(anchor).collect();
        let (enrol, denied_eks) = (enrol(config)?, denied(config)?);
        let policies = policies(config)?;
        Ok(Self { tpm: tpm::Trust { anchors, enrol, denied_eks, policies } })
    }

    /// How much is in force.
    pub fn loaded(&self) -> Loaded {
        Loaded { anchors: self.tpm.anchors.len(), policies: self.tpm.policies.policies().len() }
    }
}

impl Deref for Trust {
    type Target = tpm::Trust;

    fn deref(&self) -> &tpm::Trust {
        &self.tpm
    }
}

/// An anchor that cannot be used is left out, and said: the others still count.
fn anchor(stored: &Anchor) -> Option<tpm::Anchor> {
    let left_out = |problem: String| {
        tracing::error!(
            fingerprint = stored.fingerprint,
            problem,
            "anchor left out; import it again with its manufacturer"
        );
    };
    let manufacturer = stored.manufacturer.parse::<Manufacturer>().map_err(|e| left_out(e.to_string())).ok()?;
    tpm::Anchor::parse(&stored.der, manufacturer, Some(stored.not_after)).map_err(|e| left_out(e.to_string())).ok()
}

fn enrol(config: &Config) -> Result<tpm::Enrol, TrustError> {
    if config.tpm.enrol == Enrol::Inventory {
        return Ok(tpm::Enrol::Inventory);
    }
    let allowed = config.tpm.allow.iter().map(|row| {
        let manufacturer = row.manufacturer.parse();
        let manufacturer = manufacturer.map_err(|e: tpm::trust::ManufacturerError| TrustError::Config {
            key: "tpm.allow",
            problem: e.to_string(),
        })?;
        Ok(Allowed { manufacturer, model: row.model.clone() })
    });
    allowed.collect::<Result<_, _>>().map(tpm::Enrol::Open)
}

fn denied(config: &Config) -> Result<BTreeSet<[u8; 32]>, TrustError> {
    let hash = |text: &String| {
        let mut hash = [0; 32];
        match hex::decode_to_slice(text, &mut hash) {
            Ok(()) => Ok(hash),
            Err(_) => Err(TrustError::Config { key: "tpm.deny", problem: format!("'{text}' is no hex SHA-256") }),
        }
    };
    config.tpm.deny.iter().map(hash).collect()
}

fn policies(config: &Config) -> Result<PolicySet, TrustError> {
    let Some(path) = &config.tpm.policy_file else { return Ok(PolicySet::default()) };
    let text = std::fs::read_to_string(path).map_err(|source| TrustError::Read { path: path.clone(), source })?;
    PolicySet::from_toml(&text).map_err(|source| TrustError::Policy { path: path.clone(), source })
}
