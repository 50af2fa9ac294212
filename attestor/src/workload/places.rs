use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::digest::ExeId;

/// How long a path is believed. Moving or replacing the file changes its ctime and so its [`ExeId`]; this bounds what
/// does not: a folder above it that was moved, or a mount over it.
const FRESH: Duration = Duration::from_secs(5);
/// Programs kept.
const MAX_KEPT: usize = 4096;

struct Place {
    at: Instant,
    link: PathBuf,
    measurable: bool,
    path: Option<PathBuf>,
}

/// Where programs were found, so that looking again needs no step into a file system that may not answer.
#[derive(Default)]
pub(super) struct Places {
    /// Guards the map; held for a look-up or an insertion.
    kept: Mutex<HashMap<ExeId, Place>>,
}

impl Places {
    /// Whether the program is measurable, and its path, if it was found lately under the same link.
    pub(super) fn find(&self, exe: &ExeId, link: &Path) -> Option<(bool, Option<PathBuf>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.get(exe).filter(|p| p.at.elapsed() < FRESH && p.link == link)?;
        Some((place.measurable, place.path.clone()))
    }

    pub(super) fn keep(&self, exe: ExeId, link: PathBuf, measurable: bool, path: Option<PathBuf>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(exe, Place { at: Instant::now(), link, measurable, path });
    }
}
