//! The log as static files: a folder for each epoch, laid out as C2SP tlog-tiles says, written new and renamed.
//!
//! Nothing in it is needed to go on: it is made again from the database. What it is for is others, who copy it.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chancery_core::log::{folder, note, tile::Tile};

/// Name of the newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Everybody may read, nobody but us writes.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// The files of one epoch.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Of that epoch, below the log's folder.
    pub fn new(dir: &Path, epoch: i64) -> Self {
        Self { path: dir.join(epoch.to_string()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint; `None` where there is none.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        match bounded(&self.path.join(CHECKPOINT), note::MAX_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Shows a checkpoint; its tiles are there before.
    ///
    /// # Errors
    /// Whatever the file system says; then the old one is still there.
    pub fn show(&self, note: &[u8]) -> io::Result<()> {
        make(&self.path)?;
        chancery_daemon::file::write_atomic(&self.path.join(CHECKPOINT), note, FILE_MODE)
    }

    /// A tile; of one that is not full, the full one where that has replaced it.
    ///
    /// # Errors
    /// Whatever the file system says; a file that is longer than the tile can be.
    pub fn read(&self, tile: Tile) -> io::Result<Vec<u8>> {
        match bounded(&self.path.join(tile.path()), folder::max_bytes(tile)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
                let full = bounded(&self.path.join(tile.full().path()), folder::max_bytes(tile.full()))?;
                tile.part_of(&full).ok_or(e)
            }
            read => read,
        }
    }

    /// Writes tiles, each whole or not at all, and to the disk itself before this returns.
    ///
    /// # Errors
    /// Whatever the file system says; some may be written then.
    pub fn write(&self, tiles: &[(Tile, Vec<u8>)]) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for (tile, bytes) in tiles {
            let path = self.path.join(tile.path());
            let parent = path.parent().ok_or_else(|| io::Error::other("a tile without a folder"))?;
            if folders.insert(parent.to_path_buf()) {
                make(parent)?;
            }
            let fresh = path.with_extension("new");
            write_new(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)).inspect_err(|_| {
                // Ours alone, and half-written.
                let _ = fs::remove_file(&fresh);
            })?;
        }
        folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// Takes away what full tiles have replaced: nobody needs the parts any more.
    pub fn forget_parts(&self, full: impl Iterator<Item = Tile>) {
        for tile in full {
            let mut parts = self.path.join(tile.path()).into_os_string();
            parts.push(".p");
            // Left behind it costs room, nothing else.
            let _ = fs::remove_dir_all(PathBuf::from(parts));
        }
    }
}

/// A file of at most so many bytes.
///
/// # Errors
/// Whatever the file system says; a longer file.
pub fn bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    match bytes.len() > most {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {most} bytes"))),
        false => Ok(bytes),
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
