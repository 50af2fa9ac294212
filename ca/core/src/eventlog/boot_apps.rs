//! PCR 4: which boot programs were started.

use super::{
    LogError,
    event::{BOOT_SERVICES_APPLICATION, EFI_ACTION, Event, NO_ACTION, SEPARATOR},
};

/// EV_OMIT_BOOT_DEVICE_EVENTS: says that failed boot attempts are not measured.
const OMIT_BOOT_DEVICE_EVENTS: u32 = 0x0000_0012;
const ACTIONS: [&[u8]; 2] =
    [b"Calling EFI Application from Boot Option", b"Returning from EFI Application from Boot Option"];

/// Authenticode digests in order; the data of these events proves nothing and is not read.
///
/// # Errors
/// [`LogError`] for an event that does not belong in PCR 4, or not exactly one proven separator.
pub fn read(events: &[Event<'_>]) -> Result<Vec<[u8; 32]>, LogError> {
    let (mut apps, mut separators, mut last) = (Vec::new(), 0, 0);
    for event in events.iter().filter(|e| e.pcr == 4 && e.kind != NO_ACTION) {
        last = event.at;
        match event.kind {
            BOOT_SERVICES_APPLICATION => apps.push(event.digest),
            SEPARATOR if event.proven()? == [0; 4] => separators += 1,
            EFI_ACTION if ACTIONS.contains(&event.proven()?) => {}
            OMIT_BOOT_DEVICE_EVENTS if event.proven()? == b"BOOT ATTEMPTS OMITTED" => {}
            _ => return Err(event.out_of_order("this event does not belong in PCR 4")),
        }
    }
    if separators == 1 {
        Ok(apps)
    } else {
        Err(LogError::Order { at: last, what: "PCR 4 wants exactly one separator" })
    }
}
