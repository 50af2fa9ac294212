//! A copy of one epoch's log: a folder with `checkpoint` and `tile/`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use chancery_core::{
    event::leaf_hash,
    log::{
        Hash,
        checkpoint::Checkpoint,
        folder,
        note::{self, VerifierKey},
        proof::{self, Head},
        tile::{FULL, Row, Tile},
    },
};

/// A log that is believed as far as its checkpoint goes.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
    keys: Vec<VerifierKey>,
    /// Its newest checkpoint, whose signature verified.
    pub checkpoint: Checkpoint,
}

/// One event, and the proof that it is in the log.
#[derive(Debug)]
pub struct Included {
    /// Its exact bytes.
    pub event: Vec<u8>,
    /// Hashes beside its way to the root, from below.
    pub proof: Vec<Hash>,
}

impl Copy {
    /// Opens the folder; its checkpoint must be signed by one of `keys`, whose name says which log it is.
    ///
    /// # Errors
    /// One line.
    pub fn open(path: &Path, keys: Vec<VerifierKey>) -> Result<Self, String> {
        let checkpoint = opened(&path.join("checkpoint"), &keys)?;
        Ok(Self { path: path.into(), keys, checkpoint })
    }

    /// Verifies every tile and event; `seen` is told how many are done.
    ///
    /// # Errors
    /// One line that names the first difference.
    pub fn verify(&self, seen: impl FnMut(u64)) -> Result<(), String> {
        let epoch = self.checkpoint.origin.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok());
        let epoch = epoch.ok_or_else(|| format!("{} names no epoch", self.checkpoint.origin))?;
        folder::verify(&self.checkpoint, epoch, |tile| self.read(tile), seen).map_err(|fault| fault.to_string())
    }

    /// Proves that the event of that number is in the log, from the few tiles that it takes.
    ///
    /// # Errors
    /// One line.
    pub fn include(&self, number: u64) -> Result<Included, String> {
        let Head { size, root } = self.checkpoint.head;
        let index = number / u64::from(FULL);
        let bundle = Tile::of_tree(Row::Entries, index, size).filter(|_| number < size);
        let bundle = bundle.ok_or_else(|| format!("event {number} is not below the checkpoint's {size}"))?;
        let bytes = self.read(bundle).map_err(|e| format!("{bundle}: {e}"))?;
        let entries = bundle.entries(&bytes).map_err(|e| e.to_string())?;
        let offset = usize::try_from(number % u64::from(FULL)).unwrap_or(usize::MAX);
        let event = entries.get(offset).ok_or_else(|| format!("{bundle} ends before event {number}"))?;
        let proof = proof::inclusion(number, size, |tile| self.read(tile)).map_err(|e| e.to_string())?;
        match proof::is_included(&leaf_hash(event), number, size, &root, &proof) {
            true => Ok(Included { event: event.to_vec(), proof }),
            false => Err(format!("event {number} is not in the tree of the checkpoint: it or a tile was altered")),
        }
    }

    /// Proves that the log begins with the one of an older checkpoint, from the few tiles that it takes.
    ///
    /// # Errors
    /// One line.
    pub fn continues(&self, older: &Path) -> Result<Checkpoint, String> {
        let older = opened(older, &self.keys)?;
        let (old, new) = (older.head, self.checkpoint.head);
        if old.size > new.size {
            return Err(format!("the log was cut: {} events here, {} in the older checkpoint", new.size, old.size));
        }
        let proof = proof::consistency(old.size, new.size, |tile| self.read(tile)).map_err(|e| e.to_string())?;
        match proof::is_consistent(old, new, &proof) {
            true => Ok(older),
            false => Err(format!("a split view: the log does not begin with the older one of {} events", old.size)),
        }
    }

    fn read(&self, tile: Tile) -> io::Result<Vec<u8>> {
        match bounded(&self.path.join(tile.path()), folder::max_bytes(tile)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
                // A log may take parts away once they are full.
                let full = bounded(&self.path.join(tile.full().path()), folder::max_bytes(tile.full()))?;
                tile.part_of(&full).ok_or(e)
            }
            read => read,
        }
    }
}

/// A checkpoint in a file, of the log that the first key names.
fn opened(path: &Path, keys: &[VerifierKey]) -> Result<Checkpoint, String> {
    let told = |problem: String| format!("{}: {problem}", path.display());
    let origin = keys.first().map(VerifierKey::name).ok_or_else(|| told("no key to verify it with".into()))?;
    let trusted: Vec<_> = keys.iter().filter(|key| key.name() == origin).map(|key| *key.public()).collect();
    let note = bounded(path, note::MAX_BYTES).map_err(|e| told(e.to_string()))?;
    Checkpoint::open(&note, origin, &trusted).map_err(|e| told(e.to_string()))
}

/// A file of at most so many bytes.
///
/// # Errors
/// Whatever the file system says; a longer file.
pub(crate) fn bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    match bytes.len() > most {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {most} bytes"))),
        false => Ok(bytes),
    }
}
