//! What the verifier does with a folder of the log. It links the core, and neither store, network nor keys.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod cli;
pub mod copy;
