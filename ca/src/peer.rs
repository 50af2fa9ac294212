//! Who is at the other end of a connection: facts from TLS or the kernel, never claims.

use std::{fmt, net::IpAddr};

use chancery_core::transcript::Exporters;
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::store::Certificate;

/// What a finished handshake, or the kernel, says of a connection.
#[derive(Clone, Eq, PartialEq)]
pub struct Peer {
    /// The verified X509-SVID's ID; `None` for whoever presented none. An unknown caller is a fact, not an error.
    pub id: Option<SpiffeId>,
    /// Decimal serial of the leaf; empty without one.
    pub serial: String,
    /// End of the leaf; `None` without one.
    pub not_after: Option<UnixTime>,
    /// Hex of the key identifiers of what signed the leaf and the certificates sent with it, in order.
    pub authorities: Vec<String>,
    /// TLS exporters under the attestors' labels; `None` on the UNIX door. Without them no attestation.
    pub exporters: Option<Exporters>,
    /// Address of a TCP caller.
    pub source: Option<IpAddr>,
    /// Kernel credentials of a UNIX caller.
    pub local: Option<LocalPeer>,
}

/// `SO_PEERCRED` of the admin socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalPeer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Process when it connected.
    pub pid: i32,
}

impl Peer {
    /// Its certificate by serial and each issuer above, as a list may name it; none without one.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate> {
        let issuers = self.authorities.iter().filter(|_| !self.serial.is_empty());
        issuers.map(|issuer| Certificate { authority: issuer.clone(), serial: self.serial.clone() })
    }

    /// A caller on the UNIX door.
    pub fn local(local: LocalPeer) -> Self {
        Self {
            id: None,
            serial: String::new(),
            not_after: None,
            authorities: Vec::new(),
            exporters: None,
            source: None,
            local: Some(local),
        }
    }
}

// The exporter binds evidence to a connection: it stays out of logs.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("source", &self.source)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
