//! An echo to measure against: the same transport, the same payload, nothing behind it.
//!
//! It is a process of its own, so that its processor time is told apart from the caller's as a server's is.

mod caller;
mod serve;

pub use caller::{Echo, EchoCall};
pub use serve::{ServeArgs, serve};

/// What its latencies are filed under.
pub const NAME: &str = "echo";
/// Its one method.
const PATH: &str = "/chancery.loadgen.v1.Echo/Echo";
/// Its service.
const SERVICE: &str = "chancery.loadgen.v1.Echo";
/// Its trust domain, which lives as long as the process.
const DOMAIN: &str = "echo.loadgen";

/// What the echo tells its starter on its first line: where it is, and the identity of whoever calls it.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Hello {
    /// Address of the mTLS door; absent where it serves a UNIX socket.
    address: Option<std::net::SocketAddr>,
    /// PEM.
    bundle: String,
    /// PEM, one certificate.
    certificate: String,
    /// PEM; of a trust domain that ends with the run.
    key: String,
}
