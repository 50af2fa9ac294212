//! JWT-SVIDs and the keys that sign them.
//!
//! Bundles are always here; verification of tokens needs the feature `jwt`. Time is an argument and
//! nothing here does I/O. A token is a bearer secret: it is never kept, printed or put into an error.

mod bundle;
mod key;

pub(crate) use bundle::USE;
pub use bundle::{JwtBundle, JwtBundleError, JwtBundleSet};
pub use key::JwtKey;
