//! Which server the load goes to.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::cli::Common;

/// Everything needed to reach a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// mTLS address.
    pub server: SocketAddr,
    /// Operators' socket.
    pub admin_socket: PathBuf,
    /// PEM file that is trusted instead of what the admin socket tells.
    pub bundle: Option<PathBuf>,
    /// Processes to look at.
    pub pids: Vec<u32>,
}

/// The fields of a playground's description that are used here.
#[derive(Debug, Deserialize)]
pub struct Playground {
    ca: Ca,
    /// Its nodes.
    pub nodes: Vec<Machine>,
}

#[derive(Debug, Deserialize)]
struct Ca {
    grpc: SocketAddr,
    admin_socket: PathBuf,
    pid: u32,
}

/// A node of a playground.
#[derive(Clone, Debug, Deserialize)]
pub struct Machine {
    pub spiffe_id: String,
    pub workload_socket: PathBuf,
    pub pid: u32,
}

impl Target {
    /// What the command line says, and for the rest the playground.
    ///
    /// # Errors
    /// What is missing, and how to give it.
    pub fn of(common: &Common) -> Result<Self, String> {
        let playground = playground(common)?;
        let ca = playground.as_ref().map(|p| &p.ca);
        let missing = |flag: &str| format!("{flag} is missing: give it, or --playground DIR/playground.json");
        let server = common.server.or(ca.map(|ca| ca.grpc)).ok_or_else(|| missing("--server IP:PORT"))?;
        let socket = common.admin_socket.clone().or(ca.map(|ca| ca.admin_socket.clone()));
        let mut pids = common.pid.clone();
        if pids.is_empty() {
            pids.extend(ca.map(|ca| ca.pid));
        }
        Ok(Self {
            server,
            admin_socket: socket.ok_or_else(|| missing("--admin-socket PATH"))?,
            bundle: common.bundle.clone(),
            pids,
        })
    }
}

/// The playground that was named, if one was.
///
/// # Errors
/// The file, and why it is none.
pub fn playground(common: &Common) -> Result<Option<Playground>, String> {
    common.playground.as_deref().map(read).transpose()
}

fn read(path: &Path) -> Result<Playground, String> {
    let text = fs::read_to_string(path).map_err(|e| {
        format!("--playground {}: {e}; is the playground up, and has it printed `ready`?", path.display())
    })?;
    serde_json::from_str(&text).map_err(|e| format!("--playground {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn target(args: &[&str]) -> Result<Target, String> {
        let all = ["loadgen"].iter().chain(args).chain(&["issue"]);
        Target::of(&Cli::try_parse_from(all).unwrap().common)
    }

    #[test]
    fn what_is_missing_is_named_with_both_ways_to_give_it() {
        let said = target(&[]).unwrap_err();
        assert!(said.contains("--server") && said.contains("--playground"), "{said}");
        let said = target(&["--server", "127.0.0.1:8081"]).unwrap_err();
        assert!(said.contains("--admin-socket"), "{said}");
    }

    #[test]
    fn a_playground_gives_the_rest_and_the_command_line_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"trust_domain":"t","ca":{"grpc":"127.0.0.1:1","admin_socket":"/a","pid":7},"nodes":[]}"#;
        fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let found = target(&["--playground", path]).unwrap();
        assert_eq!((found.server.port(), found.pids), (1, vec![7]));
        let found = target(&["--playground", path, "--pid", "8", "--pid", "9", "--server", "127.0.0.1:2"]).unwrap();
        assert_eq!((found.server.port(), found.pids), (2, vec![8, 9]));
    }
}
