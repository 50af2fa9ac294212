//! Who is at the other end of a connection.

use std::sync::Arc;

use rustls::CommonState;
use rustls_pki_types::CertificateDer;

use crate::{id::SpiffeId, time::UnixTime, tls::PeerVerifier, x509::Peer};

/// The verified identity of a connection's peer; cheap to clone.
///
/// Only verification makes one. In a tonic or axum handler: `request.extensions().get::<PeerIdentity>()`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerIdentity(Arc<Peer>);

impl PeerIdentity {
    /// The peer of a finished handshake; none when it presented no certificate.
    ///
    /// Verifies once more, so a bundle that changed during the handshake counts, and a connection
    /// whose configuration had another verifier gains nothing here.
    ///
    /// # Errors
    /// As [`PeerVerifier::verify`].
    pub fn of(connection: &CommonState, verifier: &PeerVerifier) -> Result<Option<Self>, rustls::Error> {
        let Some(chain) = connection.peer_certificates() else { return Ok(None) };
        verifier.verify(chain).map(|peer| Some(Self(Arc::new(peer))))
    }

    /// The SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// Last second of the certificate the peer presented.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    /// Serial number of that certificate, in decimal digits.
    pub fn serial_decimal(&self) -> &str {
        &self.0.serial_decimal
    }

    /// That certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.0.leaf
    }
}
