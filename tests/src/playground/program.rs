use std::{
    io,
    path::{Path, PathBuf},
};

use crate::process::{Process, run};

/// Gives a program its environment.
const ENV: &str = "/usr/bin/env";

/// A program with what it needs in its environment: where a token's module finds its configuration.
pub(super) struct Program {
    path: PathBuf,
    environment: Vec<String>,
}

impl Program {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, environment: Vec::new() }
    }

    /// From now on with `NAME=VALUE`.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.push(format!("{name}={value}"));
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// As [`run`].
    pub(super) fn run(&self, args: &[&str]) -> Result<String, String> {
        let line = self.line(args);
        run(Path::new(ENV), &line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts it; `env` becomes the program, and keeps its number.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) fn start(&self, name: &str, args: &[&str], log: &Path) -> io::Result<Process> {
        let line = self.line(args);
        Process::start(name, Path::new(ENV), &line.iter().map(String::as_str).collect::<Vec<_>>(), log)
    }

    fn line(&self, args: &[&str]) -> Vec<String> {
        let own = std::iter::once(self.path.display().to_string());
        self.environment.iter().cloned().chain(own).chain(args.iter().map(|a| (*a).to_owned())).collect()
    }
}
