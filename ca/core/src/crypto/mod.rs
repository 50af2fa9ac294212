//! The primitives the core verifies with, all over ring: hashes, one MAC, one signature scheme.
//!
//! Nothing here makes a signature or a secret.

pub mod curve;
pub mod weak;

use ring::{
    digest::{Context, SHA256, SHA384},
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey},
};

/// SHA-256 over the parts in order, nothing between them.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-384 over the parts in order, nothing between them.
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = Context::new(&SHA384);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 48];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Whether `tag` is HMAC-SHA256 of `message` under `key`; constant time in the tag.
#[must_use]
pub fn hmac_sha256_is(key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), message, tag).is_ok()
}

/// Whether `signature` over `message` is by the Ed25519 key `public` (RFC 8032).
#[must_use]
pub fn ed25519_signed(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// Whether `signature` (r and s, 32 bytes each) over SHA-256 of `message` is by the key `x`, `y`.
///
/// A point off the curve verifies nothing.
#[must_use]
pub fn p256_signed(x: &[u8; 32], y: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let point = [&[4][..], x, y].concat(); // SEC 1, uncompressed
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
}
