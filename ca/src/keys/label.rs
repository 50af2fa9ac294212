//! Labels of keys: `chancery/<purpose>/<22 characters of a UUID>`, chosen before the key exists.
//!
//! At most 40 bytes, for that is what a YubiHSM holds. Keys made by earlier versions are labelled by the hexadecimal
//! ID of their authority and are still opened.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::KeyError;

/// What the label of every key of ours begins with.
pub const PREFIX: &str = "chancery/";
/// Longest label in bytes (`CKA_LABEL` of a YubiHSM).
pub const MAX_BYTES: usize = 40;

/// The label of a key that is about to be made; `purpose` is of `a-z 0-9`, at most 8.
pub fn fresh(purpose: &str, uuid: Uuid) -> String {
    format!("{PREFIX}{purpose}/{}", URL_SAFE_NO_PAD.encode(uuid.as_bytes()))
}

/// # Errors
/// [`KeyError::Label`].
pub(super) fn check(label: &str) -> Result<(), KeyError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_/".contains(&b);
    let good = (1..=MAX_BYTES).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('/');
    if good { Ok(()) } else { Err(KeyError::Label(label.into())) }
}

/// A checked label as the stem of a file's name.
pub(super) fn to_file(label: &str) -> String {
    label.replace('/', "-")
}

/// The label of such a stem. Purposes have no `-`, so the first two are the slashes.
pub(super) fn from_file(stem: &str) -> String {
    match stem.strip_prefix("chancery-").and_then(|rest| rest.split_once('-')) {
        Some((purpose, uuid)) => format!("{PREFIX}{purpose}/{uuid}"),
        None => stem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_label_fits_the_smallest_token_and_survives_the_way_to_a_file_name() {
        for byte in [0, 0xfb, 0xff] {
            let label = fresh("x509", Uuid::from_bytes([byte; 16]));
            assert!(label.len() <= MAX_BYTES && check(&label).is_ok(), "{label}");
            assert_eq!(from_file(&to_file(&label)), label);
        }
        assert_eq!(from_file(&"0a".repeat(20)), "0a".repeat(20));
    }

    #[test]
    fn labels_that_could_name_another_file_are_refused() {
        for bad in ["", "/etc/x", "a b", "..", "a.b", "\u{e9}", &"a".repeat(41)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
