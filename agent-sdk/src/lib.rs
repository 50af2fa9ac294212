//! SPIFFE vocabulary and Workload API client.
//!
//! Without features this crate is vocabulary only: IDs, SVIDs, bundles and their verification, with
//! time as an argument and no I/O. The `client` feature adds the Workload API client, the rotating
//! identity source and the rustls configurations; `jwt` (part of `client`) adds JWT-SVID verification.
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn quick_start() -> Result<(), Box<dyn std::error::Error>> {
//! use chancery_sdk::{Source, id::TrustDomain, tls::{Allow, H2}};
//!
//! // Where: SPIFFE_ENDPOINT_SOCKET. Waits once, for the first identity; rotation is automatic.
//! let source = Source::builder().connect().await?;
//! println!("I am {}", source.svid()?.id());
//!
//! // Who is welcome is never a default: here, every instance of one agent class.
//! let prod = TrustDomain::new("prod.example.org")?;
//! let buyers = Allow::class(&prod, "finance/buyer")?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
//! let mut peers = source.acceptor(buyers, &[H2])?.incoming(listener); // for tonic; axum: peer::serve
//! while let Some(connection) = peers.accept().await {
//!     println!("{} is here", connection.peer().id()); // closed when its certificate ends
//! }
//! # Ok(()) }
//! ```
//!
//! `examples/grpc.rs` and `examples/axum.rs` are whole programs. The SDK changes nothing process-wide
//! unless asked to: no TLS provider is installed, and core dumps are forbidden only on request
//! (`SourceBuilder::forbid_dumps`).
#![warn(missing_docs)]

pub mod bundle;
pub mod id;
#[cfg(feature = "spiffe")]
pub mod interop;
mod json;
pub mod jwt;
mod key;
pub mod origin;
#[cfg(feature = "client")]
pub mod peer;
pub mod revocation;
#[cfg(feature = "client")]
pub mod source;
pub mod time;
#[cfg(feature = "client")]
pub mod tls;
#[cfg(feature = "client")]
pub mod workload;
pub mod x509;

#[cfg(feature = "client")]
pub use source::Source;
