//! Replay: the PCR values a log leads to.

use std::collections::BTreeMap;

use super::{
    LogError,
    event::{Event, NO_ACTION},
};
use crate::crypto::sha256;

const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// Extends digest by digest; EV_NO_ACTION extends nothing, but may say with which locality PCR 0 began.
///
/// # Errors
/// [`LogError::Malformed`] for a startup locality that is doubled, late or not one byte.
pub fn replay(events: &[Event<'_>]) -> Result<BTreeMap<u32, [u8; 32]>, LogError> {
    let mut pcrs: BTreeMap<u32, [u8; 32]> = BTreeMap::new();
    for event in events {
        if event.kind != NO_ACTION {
            let pcr = pcrs.entry(event.pcr).or_default();
            *pcr = sha256(&[pcr.as_slice(), &event.digest]);
            continue;
        }
        let Some(locality) = event.data.strip_prefix(STARTUP_LOCALITY) else { continue };
        let [locality] = locality else { return Err(event.malformed("a startup locality is one byte")) };
        let mut initial = [0; 32];
        if let Some(last) = initial.last_mut() {
            *last = *locality;
        }
        if event.pcr != 0 || pcrs.insert(0, initial).is_some() {
            return Err(event.malformed("a startup locality that is doubled, late or not of PCR 0"));
        }
    }
    Ok(pcrs)
}
