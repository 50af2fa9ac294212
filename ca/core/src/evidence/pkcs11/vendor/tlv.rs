//! Strict BER-TLV, as DER writes it: one- and two-byte tags, definite minimal lengths, nothing left over.

use super::{Refused, refuse};
use crate::reason::Reason;

/// One element.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Element<'a> {
    /// One byte (`0x42`) or two (`0x7f21`).
    pub tag: u16,
    /// The content.
    pub value: &'a [u8],
    /// Tag, length and content.
    pub raw: &'a [u8],
}

/// Reads elements one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u16) -> Result<Element<'a>, Refused> {
        match next(self.rest) {
            Some((element, rest)) if element.tag == tag => {
                self.rest = rest;
                Ok(element)
            }
            Some((element, _)) => {
                refuse(Reason::EvidenceMalformed, format!("element {:X} stands where {tag:X} must", element.tag))
            }
            None => refuse(Reason::EvidenceMalformed, format!("no whole element where {tag:X} must stand")),
        }
    }

    /// Passes over the next element if it has this tag and no content.
    pub(super) fn skip_if_empty(&mut self, tag: u16) {
        if let Some((Element { tag: found, value: [], .. }, rest)) = next(self.rest)
            && found == tag
        {
            self.rest = rest;
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Refused> {
        match self.rest {
            [] => Ok(()),
            rest => refuse(Reason::EvidenceMalformed, format!("{} bytes too many", rest.len())),
        }
    }
}

/// Reads the whole of `bytes` as one element with this tag.
pub(super) fn only(bytes: &[u8], tag: u16) -> Result<&[u8], Refused> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element.value)
}

fn next(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, after_tag) = tag(bytes)?;
    let (len, after_len) = length(after_tag)?;
    let (value, rest) = after_len.split_at_checked(len)?;
    let raw = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
    Some((Element { tag, value, raw }, rest))
}

fn tag(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x1f != 0x1f {
        return Some((u16::from(first), rest));
    }
    let (&second, rest) = rest.split_first()?;
    let long_enough = (0x1f..0x80).contains(&second); // a smaller number fits one byte, a larger needs three
    long_enough.then_some((u16::from_be_bytes([first, second]), rest))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [len @ ..=0x7f, ref rest @ ..] => Some((usize::from(len), rest)),
        [0x81, len @ 0x80..=0xff, ref rest @ ..] => Some((usize::from(len), rest)),
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => Some((usize::from(u16::from_be_bytes([high, low])), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_form_of_a_length_is_read() {
        assert_eq!(only(&[0x04, 1, 9], 0x04).unwrap(), [9]);
        for long in [&[0x04, 0x81, 1, 9][..], &[0x04, 0x82, 0, 1, 9], &[0x04, 0x80, 9, 0, 0], &[0x04, 0x83, 0, 0, 1, 9]]
        {
            assert_eq!(only(long, 0x04).unwrap_err().reason, Reason::EvidenceMalformed);
        }
        let body = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(only(&body, 0x04).unwrap(), [7; 0x80]);
        let body = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        assert_eq!(only(&body, 0x04).unwrap(), [7; 0x100]);
    }

    #[test]
    fn two_byte_tags_are_read_and_longer_or_shorter_ones_refused() {
        assert_eq!(only(&[0x5f, 0x29, 1, 0], 0x5f29).unwrap(), [0]);
        for tag in [&[0x5f, 0x1e, 1, 0][..], &[0x5f, 0x81, 0x01, 1, 0], &[0x5f]] {
            assert!(only(tag, 0x5f29).is_err());
        }
    }

    #[test]
    fn a_byte_more_or_less_is_refused() {
        assert!(only(&[0x04, 1, 9, 9], 0x04).is_err());
        assert!(only(&[0x04, 2, 9], 0x04).is_err());
        assert!(only(&[], 0x04).is_err());
    }
}
