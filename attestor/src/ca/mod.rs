//! The attestor's client of the CA.
//!
//! [`Ca`] is what the rest of the attestor calls: one async method per question, over the [`Line`] of the current node
//! SVID, to whichever of the [`Servers`] answers; where none does it is [`CaError::Lost`]. Every call here is safe to
//! repeat at another server: reads, or writes that the CA guards by start token, serial or key.

mod agent;
mod alive;
mod call;
mod dial;
mod error;
mod instance;
mod issue;
mod line;
mod servers;
pub(crate) mod sync;
mod watch;
pub(crate) mod wire;

pub(crate) use alive::while_alive;
pub use call::{Ca, Trouble};
pub use dial::{Dialer, Pinned, x509_bundle};
pub use error::{CaError, Denial, DialError};
pub use instance::{BeginInstance, Begun, LiveInstance, ProcessFacts, Reconciled};
pub use issue::{IssuedJwt, IssuedX509};
pub use line::Line;
pub use servers::{Condition, Server, Servers};
pub use sync::{AuthorizedClass, AuthorizedEntry};
pub use watch::{Cursor, Telling, Told, ToldCrl};
