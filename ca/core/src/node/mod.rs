//! Nodes: attested machines, and what the CA remembers of them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::selector::Selectors;

/// Whether a node may act.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// An operator's act; only eviction lifts it.
    Banned,
    /// An attributable failure; a fresh good proof leaves it.
    Failed,
    /// Proven and current.
    Good,
}

impl Standing {
    /// The word in the database, in events and on the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Failed => "failed",
            Self::Good => "good",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "banned" => Ok(Self::Banned),
            "failed" => Ok(Self::Failed),
            "good" => Ok(Self::Good),
            other => Err(format!("unknown standing '{other}'")),
        }
    }
}

/// A certificate's serial number, decimal (SPIRE's form), and its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertRef {
    /// Decimal, no leading zeros.
    pub serial: String,
    /// notAfter.
    pub expires_at: UnixTime,
}

/// A node as the store keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// `spiffe://TD/spire/agent/<type>/<id>`.
    pub id: SpiffeId,
    /// `tpm`, `pkcs11`, `join_token`.
    pub attestation_type: String,
    /// Whether it may act.
    pub standing: Standing,
    /// Code of the reason while the standing is not good; else empty.
    pub reason: String,
    /// The SVID it authenticates with; `None` once banned or failed.
    pub current: Option<CertRef>,
    /// Issued and not used yet; becomes current on first use.
    pub fresh: Option<CertRef>,
    /// Facts from attestation.
    pub selectors: Selectors,
    /// Renews by attesting again, never by RenewAgent.
    pub can_reattest: bool,
    /// As the attestor told by PostStatus.
    pub agent_version: String,
    /// Last accepted attestation.
    pub attested_at: UnixTime,
    /// Grows with every change; guards compare-and-swap.
    pub version: i64,
    /// Hash of the boot id last reconciled; empty before the first.
    pub boot: Vec<u8>,
    /// What binds the node to its TPM; `None` for other types.
    pub tpm: Option<TpmBinding>,
    /// What binds the node to its token; `None` where it has none. Beside `tpm` where both were proven.
    pub pkcs11: Option<KeyBinding>,
}

/// The attestation key a node is bound to, and where it was last used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyBinding {
    /// SHA-256 of the attestation key's SubjectPublicKeyInfo.
    pub key_sha256: [u8; 32],
    /// Address that the last accepted evidence came from.
    pub source: String,
}

/// The TPM a node is bound to, and the state it was last seen in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmBinding {
    /// SHA-256 of the EK's SubjectPublicKeyInfo.
    pub ek_hash: [u8; 32],
    /// TPM name of the attestation key (2-byte algorithm and digest).
    pub ak_name: Vec<u8>,
    /// Last completed activation.
    pub activated_at: UnixTime,
    /// Last accepted boot state.
    pub boot: BootState,
    /// The one accepted before it, which it was compared with; `None` after the first admission.
    pub before: Option<BootState>,
}

/// Counters, firmware and PCRs of the last accepted quote.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BootState {
    /// TPMS_CLOCK_INFO.resetCount.
    pub reset_count: u32,
    /// TPMS_CLOCK_INFO.restartCount.
    pub restart_count: u32,
    /// TPMS_CLOCK_INFO.clock, milliseconds.
    pub clock: u64,
    /// TPMS_CLOCK_INFO.safe.
    pub safe: bool,
    /// TPMS_ATTEST.firmwareVersion.
    pub firmware_version: u64,
    /// Quoted SHA-256 PCRs by index.
    pub pcrs: BTreeMap<u32, [u8; 32]>,
    /// SHA-256 of the event log; `None` where none was sent.
    pub log_digest: Option<[u8; 32]>,
}
