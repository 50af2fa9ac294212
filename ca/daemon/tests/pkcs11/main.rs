//! Tokens of several modules, one contract; and a module that misbehaves as it is told.

mod contract;
mod fake;
mod meddling;
mod network;
mod softhsm2;
mod tpm2;
