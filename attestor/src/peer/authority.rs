//! Makes the `:authority` of local calls one that our HTTP/2 library reads.
//!
//! gRPC's C core from 1.57 on (Python, C++, Ruby, PHP) and gRPC Java name the percent-encoded path of the socket as
//! authority. No host may contain `%`, so `h2` resets such a stream before any code of ours sees it. On a local
//! socket the authority says nothing and decides nothing: every literal one becomes a single letter. A shorter value
//! is safe in HPACK: our side then evicts no earlier than the client expects, and indices count from the newest.
//! Whatever does not parse is passed on as it is, for `h2` to judge.
//!
//! Source: RFC 9113 sections 3.4, 4.1, 6.2; RFC 7541 section 6. Issue: hyperium/h2 487, grpc/grpc 38142.

use std::ops::Range;

/// `PRI * HTTP/2.0 ...`, sent once by the client.
const PREFACE_BYTES: usize = 24;
/// Length, type, flags, stream.
const HEAD_BYTES: usize = 9;
/// Largest frame that may come: we never raise SETTINGS_MAX_FRAME_SIZE.
const MAX_FRAME_BYTES: usize = 16 << 10;
/// Type of HEADERS frames.
const HEADERS: u8 = 1;
/// Flags of HEADERS frames.
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Index of `:authority` in the static table.
const AUTHORITY: usize = 1;
/// The string `:authority`, not Huffman-coded: the C core does not use the static table for names.
const NAME: [u8; 11] = *b"\x0a:authority";
/// The string `u`, not Huffman-coded.
const PLAIN: [u8; 2] = [1, b'u'];

/// Rewrites what one client sends, as it comes.
pub(super) struct Rewriter {
    /// Bytes of the preface or of a frame that go through as they are.
    pass: usize,
    /// A frame that is not complete yet.
    held: Vec<u8>,
    /// Bytes that may be read.
    ready: Vec<u8>,
    taken: usize,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { pass: PREFACE_BYTES, held: Vec::new(), ready: Vec::new(), taken: 0 }
    }
}

impl Rewriter {
    /// Takes up to `most` bytes that may be read; none: `feed` first.
    pub(super) fn take(&mut self, most: usize) -> &[u8] {
        let from = self.taken;
        self.taken += most.min(self.ready.len() - from);
        &self.ready[from..self.taken]
    }

    /// Takes in what the client sent.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(step) = self.step(at) {
            at += step;
        }
        self.held.drain(..at);
    }

    /// Lets through what was held when the client says no more; `h2` judges the torso.
    pub(super) fn end(&mut self) {
        self.ready.append(&mut self.held);
    }

    /// Moves the next piece of `held[at..]` to `ready`; `None` where more must come first.
    fn step(&mut self, at: usize) -> Option<usize> {
        let rest = &self.held[at..];
        if self.pass > 0 {
            let piece = self.pass.min(rest.len());
            self.ready.extend_from_slice(&rest[..piece]);
            self.pass -= piece;
            return (piece > 0).then_some(piece);
        }
        let head = rest.get(..HEAD_BYTES)?;
        let whole = HEAD_BYTES + (usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]));
        if head[3] != HEADERS || whole > HEAD_BYTES + MAX_FRAME_BYTES {
            self.pass = whole;
            return Some(0);
        }
        let frame = rest.get(..whole)?;
        match value_of_authority(frame) {
            Some(value) => replace(frame, value, &mut self.ready),
            None => self.ready.extend_from_slice(frame),
        }
        Some(whole)
    }
}

/// Writes `frame` with `PLAIN` in place of `value`, and its new length.
fn replace(frame: &[u8], value: Range<usize>, out: &mut Vec<u8>) {
    let length = frame.len() - HEAD_BYTES - value.len() + PLAIN.len();
    let [.., high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low]);
    out.extend_from_slice(&frame[3..value.start]);
    out.extend_from_slice(&PLAIN);
    out.extend_from_slice(&frame[value.end..]);
}

/// Where the literal `:authority` of a HEADERS frame has its value, length and text; `None`: leave the frame alone.
fn value_of_authority(frame: &[u8]) -> Option<Range<usize>> {
    let flags = frame[4];
    let padded = flags & PADDED != 0;
    let padding = if padded { usize::from(*frame.get(HEAD_BYTES)?) } else { 0 };
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    let block = frame.get(..frame.len().checked_sub(padding)?)?;
    let mut at = HEAD_BYTES + usize::from(padded) + priority;
    while at < block.len() {
        let first = block[at];
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let (name, next) = integer(block, at, prefix)?;
        at = next;
        if matches!(first, 0x80.. | 0x20..0x40) {
            continue;
        }
        let mut named = name == AUTHORITY;
        if name == 0 {
            let end = string(block, at)?;
            named = block[at..end] == NAME;
            at = end;
        }
        let end = string(block, at)?;
        // An empty value cannot become shorter, and is none of those at fault.
        if named && end - at >= PLAIN.len() {
            return Some(at..end);
        }
        at = end;
    }
    None
}

/// The end of the string at `at`.
fn string(block: &[u8], at: usize) -> Option<usize> {
    let (length, text) = integer(block, at, 7)?;
    text.checked_add(length).filter(|end| *end <= block.len())
}

/// An integer with a prefix of `bits` bits at `at`, and where it ends. Source: RFC 7541 section 5.1.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let start = usize::from(*block.get(at)?) & most;
    if start < most {
        return Some((start, at + 1));
    }
    let (mut value, mut shift, mut at) = (most, 0, at + 1);
    loop {
        let byte = *block.get(at)?;
        at += 1;
        value += usize::from(byte & 0x7f) << shift;
        shift += 7;
        match (byte & 0x80 == 0, shift > 21) {
            (true, _) => return Some((value, at)),
            (false, true) => return None,
            (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0, length[0], length[1], kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(index: u8, value: &str) -> Vec<u8> {
        [&[0x40 | index, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    }

    /// `:method POST`, the authority, then a field with a name of its own.
    fn block(authority: &str) -> Vec<u8> {
        [vec![0x83], literal(1, authority), literal(0, "te"), b"\x08trailers".to_vec()].concat()
    }

    /// The client's bytes in pieces of `size`, as they are read in pieces of 5.
    fn through(bytes: &[u8], size: usize) -> Vec<u8> {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        for piece in bytes.chunks(size) {
            rewriter.feed(piece);
            loop {
                let read = rewriter.take(5).to_vec();
                if read.is_empty() {
                    break;
                }
                out.extend(read);
            }
        }
        rewriter.end();
        out.extend(rewriter.take(usize::MAX));
        out
    }

    /// As the C core sends it: the name spelled out.
    fn spelled(authority: &str) -> Vec<u8> {
        [&b"\x83\x40\x0a:authority"[..], &literal(1, authority)[1..], b"\x86"].concat()
    }

    #[test]
    fn a_socket_path_as_authority_becomes_one_letter_however_it_is_cut() {
        let path = "tmp%2Fworkload.sock";
        let data = frame(0, 1, b"\x41\x03a%b");
        let padded = |authority: &str| [vec![3, 0, 0, 0, 0, 9], block(authority), vec![0; 3]].concat();
        let sent = |authority: &str| {
            let frames = [frame(1, 4, &spelled(authority)), frame(1, 4, &block(authority))];
            [vec![b'P'; 24], frames.concat(), frame(1, 0x2c, &padded(authority)), data.clone()].concat()
        };
        for size in [1, 2, 7, 1000] {
            assert_eq!(through(&sent(path), size), sent("u"), "pieces of {size}");
        }
    }

    #[test]
    fn what_does_not_parse_is_passed_on_as_it_is() {
        for payload in [&b""[..], b"\x41", b"\x41\x7f\xff\xff\xff\xff\xff", b"\x41\x09short", b"\xff", b"\x40\x01"] {
            for flags in [4, 0x2c] {
                let sent = [vec![b'P'; 24], frame(1, flags, payload), b"torso".to_vec()].concat();
                assert_eq!(through(&sent, 3), sent, "{payload:?}");
            }
        }
    }
}
