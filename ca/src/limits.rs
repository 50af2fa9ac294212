//! Bounds on how much of the CA one source may hold. Never keyed by an identity that is claimed.
//!
//! This keeps a flood from one place off everybody else's way; it is not a security claim.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The network an address is counted with: /24 or /64, and on loopback the address itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Prefix {
    /// An address of 127.0.0.0/8: one machine, so a neighbour's flood is somebody else's.
    Loopback([u8; 4]),
    /// An IPv4 /24.
    V4([u8; 3]),
    /// An IPv6 /64.
    V6([u16; 4]),
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                if v4.is_loopback() { Self::Loopback([a, b, c, d]) } else { Self::V4([a, b, c]) }
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Loopback(octets) => write!(f, "{}", Ipv4Addr::from(octets)),
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6([a, b, c, d]) => write!(f, "{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)),
        }
    }
}

/// Slots: so many in all, so many for each source.
#[derive(Debug)]
pub struct Slots {
    total: usize,
    per_source: usize,
    // Guards the counts; held for one look-up, never over an await.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_source: HashMap<Prefix, usize>,
}

/// A slot; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    source: Prefix,
}

impl Slots {
    /// `total` slots, of which one source may hold `per_source`.
    pub fn new(total: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { total, per_source, held: Mutex::default() })
    }

    /// A slot for `addr`; `None` when there is none left for it.
    pub fn take(self: &Arc<Self>, addr: IpAddr) -> Option<Slot> {
        let source = Prefix::from(addr);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = held.by_source.get(&source).copied().unwrap_or(0);
        if held.total >= self.total || mine >= self.per_source {
            return None;
        }
        held.total += 1;
        held.by_source.insert(source, mine + 1);
        Some(Slot { slots: Arc::clone(self), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total = held.total.saturating_sub(1);
        match held.by_source.get(&self.source).copied() {
            Some(count) if count > 1 => held.by_source.insert(self.source, count - 1),
            Some(_) | None => held.by_source.remove(&self.source),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_cannot_hold_anothers_slots() {
        let slots = Slots::new(3, 2);
        let held: Vec<_> = (1..=2).map(|i| slots.take(addr(&format!("192.0.2.{i}"))).unwrap()).collect();
        assert!(slots.take(addr("192.0.2.9")).is_none());
        let other = slots.take(addr("198.51.100.1")).unwrap();
        assert!(slots.take(addr("203.0.113.1")).is_none(), "all slots are held");
        drop((held, other));
        assert!(slots.take(addr("192.0.2.9")).is_some());
    }

    #[test]
    fn prefixes_are_a_24_and_a_64_and_mapped_addresses_are_ipv4() {
        assert_eq!(Prefix::from(addr("192.0.2.77")).to_string(), "192.0.2.0/24");
        assert_eq!(Prefix::from(addr("127.0.0.2")).to_string(), "127.0.0.2");
        assert_eq!(Prefix::from(addr("::ffff:192.0.2.77")).to_string(), "192.0.2.0/24");
        assert_eq!(Prefix::from(addr("2001:db8:1:2:3::1")).to_string(), "2001:db8:1:2::/64");
    }
}
