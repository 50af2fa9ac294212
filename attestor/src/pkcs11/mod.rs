//! The node's PKCS#11 token: an attestation key that signs nothing but transcripts, and where configured the keys of
//! the node's SVIDs, which are never that key.
//!
//! Every method blocks for as long as the token takes, up to its deadline: call them where blocking is allowed. What
//! the token says of its keys is checked for our own sake and told to nobody: it would prove nothing.

mod evidence;
mod labels;
mod svid_key;
mod token;

pub use svid_key::TokenNodeKey;
pub use token::{NodeToken, NodeTokenError};
