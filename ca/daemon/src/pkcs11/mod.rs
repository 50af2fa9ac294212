//! Signing keys in a PKCS#11 token: the one place of this project that knows PKCS#11.
//!
//! Keys are made in the token, sensitive and not extractable, and stay there; what they sign is hashed here, and every
//! signature is verified here before anybody gets it. Module calls run on threads of their own, behind a bounded queue
//! with deadlines: a module may be slow, lose its token, lie or hang, and the process goes on or says why it does not.
//! What the token says about itself is never evidence for anybody else. Called by the CA's key store, by upstream
//! authorities and by the attestor.

mod answer;
mod config;
mod ends;
mod error;
mod find;
mod generate;
mod health;
mod keeper;
mod key;
mod module;
pub mod pin;
mod queue;
mod seat;
mod signature;
mod slot;
mod token;
pub mod uri;
mod worker;

pub use self::{
    config::TokenConfig,
    error::TokenError,
    health::{Health, State},
    key::TokenKey,
    slot::Identity,
    token::{Hooks, Token},
};
