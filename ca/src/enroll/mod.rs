//! A node proves itself: gather, decide, sign, commit, reply.

mod trust;

pub use trust::Trust;
