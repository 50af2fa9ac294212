//! What survives a restart: the node's SVID, its key (or the TPM's wrapped blob) and the newest bundle.
//!
//! One file, `node.json`, 0600, replaced whole. A file that makes no sense is moved aside, and the node
//! attests again: nothing in here is a proof of anything.

mod folder;
mod saved;

pub use folder::{Folder, StateError};
pub(crate) use saved::validity;
pub use saved::{Saved, SavedBundle, SavedKey, SavedSvid};
