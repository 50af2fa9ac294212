use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file system in memory with a size, unmounted when dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// `None` where the system does not let us, though we are root (a container).
    pub fn at(folder: &Path, mebibytes: usize) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tmpfs"]).arg(folder);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then(|| Self(folder.into()))
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let filler = self.filler();
        let mut block = 1 << 20;
        let mut file = fs::File::options().create(true).append(true).open(&filler).unwrap();
        while block > 0 {
            if std::io::Write::write_all(&mut file, &vec![0; block]).is_err() {
                block /= 4;
            }
        }
    }

    /// Gives it back.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whoever still has a file open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
