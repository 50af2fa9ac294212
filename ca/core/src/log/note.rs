//! Signed notes: text, and under it who signed it.
//!
//! Source: C2SP signed-note. Only Ed25519 (type 1) is verified; signatures of other keys, a witness's for example, are
//! read and left alone.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::crypto::{ed25519_signed, sha256};

/// Longest note: sixteen signatures of the largest kind there is (5 kB), and room.
pub const MAX_BYTES: usize = 128 * 1024;
/// Most signatures; a verifier takes 16 at least.
const MAX_SIGNATURES: usize = 64;
/// Longest key name.
const MAX_NAME_BYTES: usize = 512;
/// Begins a signature's line: em dash, space.
const DASH: &str = "\u{2014} ";
/// Type of Ed25519 signatures over the text.
const ED25519: u8 = 1;

/// Why a note or key is not taken.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NoteError {
    /// Two keys of one name and ID.
    #[error("signature of {0} does not verify")]
    BadSignature(String),
    /// Not a verifier key.
    #[error("not a verifier key: expected NAME+8 hex digits+base64 of type 1 and 32 bytes, and the digits to fit")]
    Key,
    /// Not a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Nobody we trust signed it.
    #[error("not signed by a key that is trusted here, but by {0}")]
    Untrusted(String),
}

/// A public key that signs notes under a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32], // Ed25519, RFC 8032
}

impl VerifierKey {
    /// The key under a name, which has no spaces and no plus.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        if is_name(name) { Ok(Self { name: name.into(), public }) } else { Err(NoteError::Key) }
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key itself.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// First four bytes of a hash of name and key; tells keys apart, proves nothing.
    pub fn id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[self.name.as_bytes(), b"\n", &[ED25519], &self.public]);
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519][..], &self.public].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        if key.len() > 64 {
            return Err(NoteError::Key);
        }
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let Some((&ED25519, public)) = key.split_first() else { return Err(NoteError::Key) };
        let key = Self::new(name, public.try_into().map_err(|_| NoteError::Key)?)?;
        if hex::encode(key.id()) == id { Ok(key) } else { Err(NoteError::Key) }
    }
}

/// A note as read; nothing in it is to be believed before [`Note::verify`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Signature<'a> {
    name: &'a str,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_BYTES {
            return Err(NoteError::Malformed("longer than 128 KiB"));
        }
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        if all.bytes().any(|b| b < b' ' && b != b'\n') {
            return Err(NoteError::Malformed("a control character"));
        }
        let (text, signed) = all.rsplit_once("\n\n").ok_or(NoteError::Malformed("no empty line above signatures"))?;
        let text = all.get(..text.len() + 1).ok_or(NoteError::Malformed("no text"))?;
        let lines = signed.strip_suffix('\n').ok_or(NoteError::Malformed("no newline at its end"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::Malformed("more than 64 signatures"));
            }
            signatures.push(Signature::parse(line).ok_or(NoteError::Malformed("a line that is no signature"))?);
        }
        Ok(Self { text, signatures })
    }

    /// The text that is signed, with its last newline, if a trusted key signed it and no trusted key's signature fails.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], [`NoteError::Untrusted`].
    pub fn verify(&self, trusted: &[VerifierKey]) -> Result<&'a str, NoteError> {
        let mut is_trusted = false;
        for signature in &self.signatures {
            for key in trusted.iter().filter(|key| key.name == signature.name && key.id() == signature.key_id) {
                if !ed25519_signed(&key.public, self.text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::BadSignature(signature.shown()));
                }
                is_trusted = true;
            }
        }
        match is_trusted {
            true => Ok(self.text),
            false => {
                let by: Vec<String> = self.signatures.iter().take(4).map(Signature::shown).collect();
                Err(NoteError::Untrusted(by.join(", ")))
            }
        }
    }

    /// The text, which anybody may have written.
    pub fn unverified_text(&self) -> &'a str {
        self.text
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (key_id, signature) = bytes.split_first_chunk::<4>()?;
        if !is_name(name) || signature.is_empty() {
            return None;
        }
        Some(Self { name, key_id: *key_id, bytes: signature.to_vec() })
    }

    fn shown(&self) -> String {
        format!("{}+{}", self.name, hex::encode(self.key_id))
    }
}

/// Writes a note: `text`, which ends in a newline, under the signature that `key` made over it.
pub fn write(text: &str, key: &VerifierKey, signature: &[u8; 64]) -> String {
    let signature = STANDARD.encode([&key.id()[..], signature].concat());
    format!("{text}\n{DASH}{} {signature}\n", key.name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests;
