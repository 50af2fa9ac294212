//! Measured-boot logs: TCG PC Client Platform Firmware Profile, crypto-agile form, built and measured here.

use crate::rig::Rig;

const NO_ACTION: u32 = 3;
const SEPARATOR: u32 = 4;
const ACTION: u32 = 5;
const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
const SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";
const SHA256: (u16, u16) = (0x000b, 32);

/// An event of PCR 7.
#[derive(Clone)]
pub struct Event {
    pub kind: u32,
    pub digest: [u8; 32],
    pub data: Vec<u8>,
}

impl Event {
    fn of(kind: u32, data: Vec<u8>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &data);
        Self { kind, digest: digest.as_ref().try_into().unwrap(), data }
    }

    /// The same measurement, told as something that nobody reads.
    pub fn disguised(&self) -> Self {
        Self { kind: ACTION, ..self.clone() }
    }
}

/// What firmware measures into PCR 7 before the first program, with secure boot on (1) or off (0).
pub fn secure_boot(on: u8) -> Vec<Event> {
    let list = signature_list(48);
    let mut events = vec![variable(GLOBAL, "SecureBoot", &[on])];
    events.extend(["PK", "KEK"].map(|name| variable(GLOBAL, name, &list)));
    events.extend([variable(SECURITY, "db", &list), variable(SECURITY, "dbx", &[])]);
    events.push(Event::of(SEPARATOR, vec![0; 4]));
    events
}

/// As [`secure_boot`], with a signature list in db whose signatures are `size` bytes long.
pub fn with_list_of(size: u32) -> Vec<Event> {
    let mut events = secure_boot(1);
    events[3] = variable(SECURITY, "db", &signature_list(size));
    events
}

fn variable(guid: &str, name: &str, value: &[u8]) -> Event {
    let mut data = hex::decode(guid).unwrap();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(value);
    Event::of(VARIABLE_DRIVER_CONFIG, data)
}

/// An EFI_SIGNATURE_LIST of one signature of 48 bytes.
fn signature_list(size: u32) -> Vec<u8> {
    let mut out = vec![1; 16];
    [28 + 48, 0, size].iter().for_each(|n: &u32| out.extend(n.to_le_bytes()));
    out.extend([2; 48]);
    out
}

/// Boots the machine anew and measures the events as its firmware would.
pub fn measure(rig: &Rig, events: &[Event]) {
    rig.swtpm.reboot().unwrap();
    for event in events {
        rig.swtpm.extend(7, event.digest).unwrap();
    }
}

/// The log of `events`.
pub fn of(events: &[Event]) -> Vec<u8> {
    let mut out = header(SHA256);
    for event in events {
        out.extend([7_u32.to_le_bytes(), event.kind.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        out.extend(SHA256.0.to_le_bytes());
        out.extend(event.digest);
        out.extend(u32::try_from(event.data.len()).unwrap().to_le_bytes());
        out.extend(&event.data);
    }
    out
}

/// A log of the SHA-1 bank alone.
pub fn of_sha1() -> Vec<u8> {
    header((0x0004, 20))
}

fn header((algorithm, size): (u16, u16)) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]); // class, version 2.0, errata, size of UINTN
    spec.extend(1_u32.to_le_bytes());
    spec.extend([algorithm.to_le_bytes(), size.to_le_bytes()].concat());
    spec.push(0); // no vendor info
    let mut out = [0_u32.to_le_bytes(), NO_ACTION.to_le_bytes()].concat();
    out.extend([0; 20]);
    out.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    out.extend(spec);
    out
}
