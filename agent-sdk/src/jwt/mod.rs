//! JWT-SVIDs and the keys that sign them.
//!
//! Bundles are always here; verification of tokens needs the feature `jwt`. Time is an argument and
//! nothing here does I/O. A token is a bearer secret: it is never kept, printed or put into an error.

#[cfg(feature = "jwt")]
mod algorithm;
mod bundle;
#[cfg(feature = "jwt")]
mod error;
mod key;
#[cfg(feature = "jwt")]
mod svid;
#[cfg(feature = "jwt")]
mod token;

pub(crate) use bundle::USE;
pub use bundle::{JwtBundle, JwtBundleError, JwtBundleSet};
#[cfg(feature = "jwt")]
pub use error::JwtError;
pub use key::JwtKey;
#[cfg(feature = "jwt")]
pub use svid::{JwtSvid, Unverified, peek_unverified};
