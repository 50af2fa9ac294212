//! What whole-system tests, the playground and the demo are built from: real processes, never mocks.

pub mod attestation;
pub mod bench;
pub mod demo;
pub mod playground;
pub mod postgres;
pub mod process;
pub mod swtpm;
