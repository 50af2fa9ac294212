//! The boot state of a node against the last accepted one.
//!
//! The counters count because the AK lives in the endorsement hierarchy: a TPM hides them from others.
//! Source: docs/SOURCES.md, C21; TPM 2.0 Library, part 1, section 36 (timing).

use crate::{
    evidence::{Checks, Denied},
    node::BootState,
    reason::Reason,
};

/// PCRs that only a restart may change.
const BOOT_PCRS: std::ops::RangeInclusive<u32> = 0..=7;

/// How the machine relates to the one seen last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Boot {
    /// Started anew, or not seen before.
    New,
    /// Still the same boot, perhaps resumed from sleep.
    Same,
}

/// Compares `now` with `last`.
///
/// | reset | restart | wanted |
/// |---|---|---|
/// | same | same | clock greater, PCRs 0 to 7 unchanged |
/// | same | greater | the same: a resume |
/// | same | smaller | never |
/// | greater | any | a reboot |
/// | smaller | any | an activation: the TPM was cleared |
///
/// A changed firmware wants an activation in every row.
pub(crate) fn judge(
    last: Option<&BootState>,
    now: &BootState,
    activated: bool,
    checks: &mut Checks,
) -> Result<Boot, Denied> {
    let Some(last) = last else {
        checks.pass("boot.first", format!("reset {}, restart {}", now.reset_count, now.restart_count));
        return Ok(Boot::New);
    };
    let firmware = now.firmware_version == last.firmware_version || activated;
    let detail = format!("firmware {:016x} became {:016x}", last.firmware_version, now.firmware_version);
    checks.require("boot.firmware", firmware, Reason::FirmwareChanged, detail)?;
    let detail = format!(
        "reset {} restart {} became {} {}",
        last.reset_count, last.restart_count, now.reset_count, now.restart_count
    );
    if now.reset_count > last.reset_count {
        checks.pass("boot.counters", detail);
        return Ok(Boot::New);
    }
    if now.reset_count < last.reset_count {
        checks.require("boot.counters", activated, Reason::ResetRollback, detail.clone())?;
        checks.pass("boot.cleared", format!("alert: {detail}"));
        return Ok(Boot::New);
    }
    checks.require("boot.counters", now.restart_count >= last.restart_count, Reason::ClockRollback, detail)?;
    // Also with `safe` off: inside one reset count the clock only grows.
    let clock = now.clock > last.clock;
    checks.require("boot.clock", clock, Reason::ClockRollback, format!("clock {} became {}", last.clock, now.clock))?;
    let changed: Vec<u32> = BOOT_PCRS.filter(|pcr| differ(last.pcrs.get(pcr), now.pcrs.get(pcr))).collect();
    checks.require(
        "boot.pcrs",
        changed.is_empty(),
        Reason::PcrRuntimeChange,
        format!("PCRs {changed:?} changed without a reboot"),
    )?;
    Ok(Boot::Same)
}

/// Both known and not equal: a new policy may quote other PCRs than the last one.
fn differ(last: Option<&[u8; 32]>, now: Option<&[u8; 32]>) -> bool {
    matches!((last, now), (Some(last), Some(now)) if last != now)
}
