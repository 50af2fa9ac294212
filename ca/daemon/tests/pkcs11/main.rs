//! Tokens of several modules, one contract; run one by one with `cargo nextest run -p chancery-daemon --test pkcs11`.

mod contract;
mod softhsm2;
