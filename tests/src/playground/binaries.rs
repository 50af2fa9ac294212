use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The folder with the daemons, beside this program.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `target/<profile>`.
    pub folder: PathBuf,
}

impl Binaries {
    /// Finds the daemons, building them first when cargo runs us (`cargo run -p chancery-tests` builds only this crate).
    ///
    /// # Errors
    /// One line with the command that builds them.
    pub fn find() -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
        let folder = exe.parent().map(|p| if p.ends_with("deps") { p.join("..") } else { p.into() });
        let folder = folder.and_then(|f: PathBuf| f.canonicalize().ok()).ok_or("own folder is gone")?;
        let this = Self { folder };
        if this.built_by_cargo_run() {
            this.build()?;
        }
        for name in ["chancery-ca", "chancery-attestor"] {
            if !this.path(name).is_file() {
                let line = "cargo build -p chancery-ca -p chancery-attestor -p chancery-tests";
                return Err(format!(
                    "{} is missing: run `{line}` (with --release for a release build)",
                    this.path(name).display()
                ));
            }
        }
        Ok(this)
    }

    /// Path of a binary.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `cargo run` of a binary sets CARGO; a test binary (under deps) is run after the whole workspace was built.
    fn built_by_cargo_run(&self) -> bool {
        let direct = std::env::current_exe().ok().and_then(|e| e.parent().map(|p| !p.ends_with("deps")));
        std::env::var_os("CARGO").is_some() && direct.unwrap_or(false)
    }

    fn build(&self) -> Result<(), String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(cargo);
        command.args(["build", "-q", "-p", "chancery-ca", "-p", "chancery-attestor"]).current_dir(root);
        if self.folder.ends_with("release") {
            command.arg("--release");
        }
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("building the daemons: {status}")),
            Err(e) => Err(format!("building the daemons: {e}")),
        }
    }
}
