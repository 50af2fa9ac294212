//! Child processes that end with us: killed on drop, and by the kernel when the parent dies.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A running child with its log file.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// How long a child may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(8);

impl Process {
    /// Starts `program` with its output in `log`.
    ///
    /// The kernel ties the death signal to the spawning thread: spawn from one that lives as long as the child should.
    ///
    /// # Errors
    /// The program or the log cannot be opened.
    pub fn start(name: &str, program: &Path, args: &[&str], log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { child, name: name.into(), log: log.into() })
    }

    /// Process id; `setpriv` replaces itself by the program, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of the log when the child has ended.
    ///
    /// # Errors
    /// The child's name, exit status and last log lines.
    pub fn check_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended ({status}); its log ends:\n{}", self.name, tail(&self.log))),
            Err(e) => Err(format!("{}: {e}", self.name)),
        }
    }

    /// Asks the child to end, and kills it after eight seconds.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
///
/// # Errors
/// The command line, its exit status and what it printed on standard error.
pub fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let line = || format!("{} {}", program.display(), args.join(" "));
    let out: Output = Command::new(program).args(args).output().map_err(|e| format!("{}: {e}", line()))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(format!("{}: {}: {}", line(), out.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Tries `attempt` every 20 ms until it answers `Ok`, an error that `fatal` names, or the time is over.
///
/// # Errors
/// The last error.
pub fn until<T>(within: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + within;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() >= end => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
