//! Mutual TLS by SPIFFE ID: who is welcome, how a peer is verified, which certificate we present.
//!
//! Everything here follows its inputs hot: a configuration is made once, and later handshakes see
//! new bundles and new certificates at once. Nothing here resumes sessions (a resumed session would
//! skip the peer check), speaks TLS 1.2 or looks at host names. Called by the SDK's
//! [`Source`](crate::Source), by the CA's acceptor and by the attestor's dialer.

mod allow;
mod config;
mod current;
mod revoked;
mod verifier;

use std::{sync::Arc, time::SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use thiserror::Error;

use crate::time::UnixTime;

pub use allow::Allow;
pub use config::{client_config, server_config};
pub use current::CurrentSvid;
pub use revoked::LiveRevocations;
pub use verifier::{ClientCertificate, PeerVerifier};

/// ALPN name of HTTP/2, which gRPC needs.
pub const H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
pub const HTTP1: &[u8] = b"http/1.1";

/// Where TLS reads the time; tests give their own.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The machine's wall clock.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().into())
}

/// The provider Chancery uses when the application gives none: aws-lc-rs, with the key exchanges
/// X25519MLKEM768 and then X25519, and TLS 1.3 alone. Nothing is installed process-wide.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// Why a TLS configuration could not be made or an identity not be used with it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The provider can not sign with the SVID's key.
    #[error("the TLS provider does not take the key of {id}")]
    Key {
        /// Whose key.
        id: String,
        /// What the provider says.
        #[source]
        source: rustls::Error,
    },
    /// The provider lacks TLS 1.3.
    #[error("the TLS provider does not speak TLS 1.3")]
    Provider(#[source] rustls::Error),
}
