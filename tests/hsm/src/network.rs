//! A "network HSM": another module behind a `p11-kit server`, which can be killed and started again.

use std::{path::PathBuf, process::Command};

use crate::{Site, Skip, command::Group, first_file};

/// A served token. The process that uses it has [`Network::client`]'s environment, not the served module's.
#[derive(Debug)]
pub struct Network {
    served: Site,
    socket: PathBuf,
    server: Option<Group>,
}

impl Network {
    /// Serves `site` on a socket in its folder.
    ///
    /// # Errors
    /// Why p11-kit cannot be used here.
    pub fn serve(site: Site) -> Result<Self, Skip> {
        let socket = site.pin_file.with_file_name("p11.sock");
        let mut network = Self { served: site, socket, server: None };
        network.start()?;
        Ok(network)
    }

    /// The served token as the client's site.
    ///
    /// # Errors
    /// The client module is missing.
    pub fn client(&self) -> Result<Site, Skip> {
        let module = first_file(
            &[
                "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
                "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
            ],
            "p11-kit-modules",
        )?;
        Ok(Site {
            module,
            uri: self.served.uri.clone(),
            pin_file: self.served.pin_file.clone(),
            env: vec![("P11_KIT_SERVER_ADDRESS".into(), format!("unix:path={}", self.socket.display()))],
            keep: Vec::new(),
        })
    }

    /// Starts the server.
    ///
    /// # Errors
    /// What it said.
    pub fn start(&mut self) -> Result<(), Skip> {
        let _ = std::fs::remove_file(&self.socket);
        // It ends with us even where nobody drops us. A child that it has for a client ends with its client.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "p11-kit", "server", "-f", "--provider"])
            .arg(&self.served.module)
            .arg("-n")
            .arg(&self.socket);
        command.arg(&self.served.uri).envs(self.served.env.iter().map(|(name, value)| (name, value)));
        let socket = self.socket.clone();
        self.server = Some(Group::start(&mut command, || socket.exists())?);
        Ok(())
    }

    /// Process id of the server, which leads a group of its own; `None` while there is none.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Group::pid)
    }

    /// Kills (SIGKILL) the server and the child that it has for each client.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// The server's socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}
