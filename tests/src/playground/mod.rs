//! A whole Chancery on one machine, of real processes: swtpm, CA, attestors.
//!
//! The one way tests, benchmarks, the demo, docs and people bring the system up. It creates no entry and no class.

mod authority;
mod binaries;
mod description;
mod enrolment;
mod machine;
mod options;
mod program;
mod status;
mod token;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use authority::{Authority, free_address};
pub use binaries::Binaries;
pub use machine::{Machine, preferred_ek};
pub use options::{Attest, CaKeys, Lifetimes, Options, Upstream};

/// Longest time a part may take to answer after its start.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A running system; everything stops when it is dropped.
pub struct Playground {
    /// The nodes, in order.
    pub machines: Vec<Machine>,
    /// The CA; its first server, where there are several.
    pub authority: Authority,
    /// The other servers of the CA.
    pub others: Vec<Authority>,
    /// Where the binaries are.
    pub bin: Binaries,
    /// The folder of everything.
    pub dir: PathBuf,
    /// The realm.
    pub trust_domain: String,
}

impl Playground {
    /// Brings the system up and writes `playground.json`.
    ///
    /// # Errors
    /// One line: which part, and the end of its log.
    pub fn start(options: &Options) -> Result<Self, String> {
        let dir = fresh_folder(&options.dir)?;
        let bin = Binaries::find()?;
        if options.servers > 1 && options.db == "sqlite" {
            return Err("several servers need one PostgreSQL: name it with --db".into());
        }
        let authority = Authority::start(&dir, 0, &bin, options)?;
        let others = (1..options.servers).map(|index| Authority::start(&dir, index, &bin, options));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        authority.write_bundle_of(options.servers)?;
        let trust_domain = options.trust_domain.clone();
        let mut this = Self { machines: Vec::new(), authority, others, bin, dir, trust_domain };
        let doors: Vec<_> = this.servers().map(|server| server.grpc).collect();
        for index in 0..options.nodes {
            this.machines.push(Machine::prepare(&this.dir, index, &this.bin, &this.authority, &doors, options)?);
        }
        for machine in &mut this.machines {
            machine.start()?;
        }
        for machine in &mut this.machines {
            machine.wait_until_serving()?;
        }
        description::write(&this)?;
        Ok(this)
    }

    /// Every server of the CA.
    pub fn servers(&self) -> impl Iterator<Item = &Authority> {
        std::iter::once(&self.authority).chain(&self.others)
    }

    /// The server at an address, as attestors name it.
    pub fn server_at(&mut self, address: &str) -> Option<&mut Authority> {
        let mut all = std::iter::once(&mut self.authority).chain(&mut self.others);
        all.find(|server| server.grpc.to_string() == address)
    }

    /// Runs `chancery-ca` with arguments against this CA's admin socket.
    ///
    /// # Errors
    /// What the command printed.
    pub fn ca(&self, args: &[&str]) -> Result<String, String> {
        self.authority.cli(args)
    }

    /// Keeps the bundle files current and looks after the children; called about once a second.
    ///
    /// # Errors
    /// A child ended by itself.
    pub fn tend(&mut self) -> Result<(), String> {
        self.authority.check_running()?;
        for server in &mut self.others {
            server.check_running()?;
        }
        for machine in &mut self.machines {
            machine.check_running()?;
        }
        self.authority.write_bundle()
    }
}

/// Makes `dir`, or accepts an empty one; answers its absolute path.
fn fresh_folder(dir: &Path) -> Result<PathBuf, String> {
    let say = |e: std::io::Error| format!("{}: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(say)?;
    if std::fs::read_dir(dir).map_err(say)?.next().is_some() {
        return Err(format!("{}: the folder is not empty; choose another --dir", dir.display()));
    }
    dir.canonicalize().map_err(say)
}
