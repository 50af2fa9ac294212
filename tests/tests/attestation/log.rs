//! A few bytes of measured-boot log: TCG PC Client Platform Firmware Profile, crypto-agile form.

/// PCR, event type and data.
pub struct Event(u32, u32, &'static [u8]);

/// EV_SEPARATOR in PCR 0, as firmware measures it.
pub const SEPARATOR: Event = Event(0, 4, &[0; 4]);

/// The log of `events`, SHA-256 only.
pub fn of(events: &[Event]) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]); // class, version 2.0, errata, size of UINTN
    spec.extend([1, 0, 0, 0, 0x0b, 0, 32, 0, 0]); // one algorithm: SHA-256 of 32 bytes; no vendor info
    let mut out = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    out.extend([0; 20]);
    out.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    out.extend(spec);
    for Event(pcr, kind, data) in events {
        out.extend([pcr.to_le_bytes(), kind.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        out.extend([0x0b, 0]);
        out.extend(ring::digest::digest(&ring::digest::SHA256, data).as_ref());
        out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        out.extend(*data);
    }
    out
}
