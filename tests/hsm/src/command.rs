//! Commands of other people's tools, and processes that end with their site.

use std::{
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// Longest wait for a server to be ready.
const READY: Duration = Duration::from_secs(20);

/// Runs a command to its end; what it said when it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let told = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{told}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{told}: {}: {} {}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// Writes a file that only we may read.
pub fn secret(path: &Path, content: &str) -> Result<(), String> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(content.as_bytes())).map_err(|e| format!("{}: {e}", path.display()))
}

/// A process that leads a group of its own; all of it ends with this value.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    /// Starts `command` in a group of its own and waits until `ready`.
    pub fn start(command: &mut Command, ready: impl Fn() -> bool) -> Result<Self, String> {
        let told = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = spawn(std::mem::replace(command, Command::new("true")));
        let mut group = Self(child.map_err(|e| format!("{told}: {e}"))?);
        let began = Instant::now();
        while !ready() {
            if let Ok(Some(status)) = group.0.try_wait() {
                return Err(format!("{told}: ended at once ({status})"));
            }
            if began.elapsed() > READY {
                return Err(format!("{told}: not ready after {} s", READY.as_secs()));
            }
            // Other people's servers tell nobody when they are ready.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(group)
    }

    /// Process id of its leader.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// Spawns on a thread that lives as long as we do: the kernel's death signal is sent when the *thread* ends that spawned.
fn spawn(command: Command) -> io::Result<Child> {
    type Ask = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Ask>> = LazyLock::new(|| {
        let (ask, asked) = mpsc::channel::<Ask>();
        std::thread::spawn(move || asked.iter().for_each(|(mut command, answer)| drop(answer.send(command.spawn()))));
        ask
    });
    let (answer, answered) = mpsc::channel();
    let gone = || io::Error::other("the spawning thread is gone");
    SPAWNER.send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
