//! The contract of key stores, on every key store; and a CA whose keys are in a token.

mod contract;
mod existing;
mod run;
mod software;
mod tokens;
