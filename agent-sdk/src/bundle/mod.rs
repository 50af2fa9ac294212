//! The SPIFFE bundle document and the map of several of them.
//!
//! A document is read element by element: what a reader cannot use it passes over, as the standard
//! asks, so that a domain may publish new kinds of keys. Called by the CA (its own bundle, federation)
//! and by clients of bundle endpoints. Nothing here fetches.

mod document;
mod map;

pub use document::{Bundle, BundleError};
pub use map::{BundleMap, BundleMapError};
