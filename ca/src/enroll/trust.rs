//! What attestation trusts: anchors from the store, policies from the file; swapped whole.

use std::{collections::BTreeSet, io, ops::Deref, path::PathBuf, sync::Arc};

use chancery_core::{
    evidence::{
        pkcs11::{
            self, Crls, EnrolmentCa,
            vendor::{Firmware, PinnedRoots, Terms, Vendor, VendorPolicy},
        },
        tpm::{self, Allowed, Manufacturer},
    },
    policy::{PolicyError, PolicySet},
};
use thiserror::Error;
use x509_parser::pem::Pem;

use crate::{
    config::{Config, Enrol},
    store::{Anchor, Store, StoreError},
};

/// Anchors, enrolment and policies in force.
#[derive(Debug)]
pub struct Trust {
    tpm: tpm::Trust,
    pkcs11: pkcs11::Trust,
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
        let denied = config.pkcs11.deny.iter().cloned().collect();
        let (vendors, roots) = vendors(config)?;
        let (enrolment_cas, enrolment_crls) = (enrolment_cas(config)?, enrolment_crls(config)?);
        let pkcs11 = pkcs11::Trust { enrolment_cas, enrolment_crls, denied, vendors, roots };
        Ok(Self { tpm: tpm::Trust { anchors, enrol, denied_eks, policies }, pkcs11 })
    }

    /// The same with the anchors that are stored now; `None` where it has them. Another server may have imported one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn with_new_anchors(&self, store: &Store) -> Result<Option<Self>, StoreError> {
        let anchors: Vec<_> = store.anchors().await?.iter().filter_map(anchor).collect();
        let fingerprints = |anchors: &[tpm::Anchor]| anchors.iter().map(|a| a.fingerprint).collect::<BTreeSet<_>>();
        if fingerprints(&anchors) == fingerprints(&self.tpm.anchors) {
            return Ok(None);
        }
        Ok(Some(Self { tpm: tpm::Trust { anchors, ..self.tpm.clone() }, pkcs11: self.pkcs11.clone() }))
    }

    /// What tokens are judged by.
    pub fn pkcs11(&self) -> &pkcs11::Trust {
        &self.pkcs11
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

/// The operator's CAs that vouch for keys in tokens. One that does not parse spoils the file: it was put there by hand.
fn enrolment_cas(config: &Config) -> Result<Vec<EnrolmentCa>, TrustError> {
    let Some(path) = &config.pkcs11.enrolment_ca_file else { return Ok(Vec::new()) };
    let wrong = |problem: String| TrustError::Config {
        key: "pkcs11.enrolment_ca_file",
        problem: format!("{}: {problem}", path.display()),
    };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let mut cas = Vec::new();
    for block in Pem::iter_from_buffer(&text) {
        let block = block.map_err(|e| wrong(format!("not PEM: {e}")))?;
        cas.push(EnrolmentCa::parse(&block.contents).map_err(|e| wrong(e.to_string()))?);
    }
    if cas.is_empty() { Err(wrong("no PEM certificate in it".into())) } else { Ok(cas) }
}

/// What enrolment CAs took back. Stale lists are loaded too: what they leave open is refused case by case.
fn enrolment_crls(config: &Config) -> Result<Option<Arc<Crls>>, TrustError> {
    let mut crls = Crls::default();
    for path in &config.pkcs11.enrolment_crl_files {
        let wrong = |problem: String| TrustError::Config {
            key: "pkcs11.enrolment_crl_files",
            problem: format!("{}: {problem}", path.display()),
        };
        let (before, text) = (crls.len(), std::fs::read(path).map_err(|e| wrong(e.to_string()))?);
        for block in Pem::iter_from_buffer(&text) {
            let block = block.map_err(|e| wrong(format!("not PEM: {e}")))?;
            if block.label != "X509 CRL" {
                return Err(wrong(format!("a block '{}' in it; it may hold 'X509 CRL' only", block.label)));
            }
            crls.add(&block.contents).map_err(|e| wrong(e.to_string()))?;
        }
        if crls.len() == before {
            return Err(wrong("no PEM CRL in it".into()));
        }
    }
    Ok((!config.pkcs11.enrolment_crl_files.is_empty()).then(|| crls.into()))
}

/// Makers' evidence: on what terms, and up to which roots.
fn vendors(config: &Config) -> Result<(VendorPolicy, PinnedRoots), TrustError> {
    let wrong = |problem: String| TrustError::Config { key: "pkcs11.vendor", problem };
    let (mut policy, mut roots) = (VendorPolicy::default(), PinnedRoots::builtin().map_err(|e| wrong(e.to_string()))?);
    for row in &config.pkcs11.vendor {
        let vendor: Vendor = row.name.parse().map_err(|e| wrong(format!("{e}")))?;
        let firmware = row.min_firmware.as_deref().map(str::parse::<Firmware>).transpose();
        let terms = Terms {
            min_firmware: firmware.map_err(|e| wrong(e.to_string()))?,
            serials: row.serials.iter().cloned().collect(),
            denied_serials: BTreeSet::new(),
            require_unexportable: row.require_unexportable,
            allow_expired_device: row.allow_expired_device,
        };
        if policy.kinds.insert(vendor, terms).is_some() {
            return Err(wrong(format!("{vendor} is there twice")));
        }
        let read = |path: &PathBuf| std::fs::read(path).map_err(|e| wrong(format!("{}: {e}", path.display())));
        let named = |path: &PathBuf, e: pkcs11::vendor::RootError| wrong(format!("{}: {e}", path.display()));
        for path in &row.root_files {
            roots.add_root(vendor, &read(path)?).map_err(|e| named(path, e))?;
        }
        for path in &row.intermediate_files {
            roots.add_intermediate(vendor, &read(path)?).map_err(|e| named(path, e))?;
        }
    }
    Ok((policy, roots))
}

fn policies(config: &Config) -> Result<PolicySet, TrustError> {
    let Some(path) = &config.tpm.policy_file else { return Ok(PolicySet::default()) };
    let text = std::fs::read_to_string(path).map_err(|source| TrustError::Read { path: path.clone(), source })?;
    PolicySet::from_toml(&text).map_err(|source| TrustError::Policy { path: path.clone(), source })
}
