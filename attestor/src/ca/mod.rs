//! The attestor's client of the CA.
//!
//! [`Ca`] is what the rest of the attestor calls: one async method per question, over the current mTLS
//! channel, with loss of transport mapped to [`CaError::Lost`] after one retry. Every call here is safe to
//! repeat: reads, or writes that the CA guards by start token, serial or key.

mod agent;
mod call;
mod dial;
mod error;
mod instance;
mod issue;
pub(crate) mod sync;
mod watch;
pub(crate) mod wire;

pub use call::{Ca, Trouble};
pub use dial::{Dialer, Pinned, x509_bundle};
pub use error::{CaError, Denial, DialError};
pub use instance::{BeginInstance, Begun, LiveInstance, ProcessFacts, Reconciled};
pub use issue::{IssuedJwt, IssuedX509};
pub use sync::{AuthorizedClass, AuthorizedEntry};
pub use watch::{Cursor, Telling, Told};
