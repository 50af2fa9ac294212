//! Evidence about keys in PKCS#11 tokens.

pub mod vendor;
