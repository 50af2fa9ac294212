use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use chancery_tests::{
    playground::{Binaries, free_address},
    process::{Process, run, until},
};
use serde_json::Value;

use crate::stage::DOMAIN;

/// Until a server that was just started serves; it may watch a claim for 12 s before.
const START: Duration = Duration::from_secs(60);

/// One CA process, its folder, its configuration.
pub struct Server {
    pub name: String,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    folder: PathBuf,
    program: PathBuf,
    /// Before the program on its command line: variables, or what puts it elsewhere.
    pub prefix: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// A server `name` in a folder below `folder`; not yet started. `more` ends its configuration.
    pub fn new(folder: &Path, name: &str, database: &str, more: &str) -> Self {
        Self::at(folder, name, database, [free_address().unwrap(), free_address().unwrap()], more)
    }

    /// The same with addresses for gRPC and metrics.
    pub fn at(folder: &Path, name: &str, database: &str, [grpc, metrics]: [SocketAddr; 2], more: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let program = Binaries::find().unwrap().path("chancery-ca");
        let this = Self { name: name.into(), grpc, metrics, folder, program, prefix: Vec::new(), process: None };
        this.configure(database, more);
        this
    }

    /// Writes the configuration anew; it holds from the next start on.
    pub fn configure(&self, database: &str, more: &str) {
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver_id = \"{}\"\ndata_dir = {:?}\ndatabase = {database:?}\n\
             listen = \"{}\"\nadmin_socket = {:?}\nmetrics_listen = \"{}\"\nnode_attestors = [\"join_token\"]\n{more}\n",
            self.name,
            self.data_dir(),
            self.grpc,
            self.socket(),
            self.metrics
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("ca.toml")
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("ca.log")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// A command, of one word or several, that needs the configuration and no running CA.
    pub fn offline(&self, command: &str) -> Result<String, String> {
        let (program, config) = (self.program.display().to_string(), self.config().display().to_string());
        let mut line: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        line.push(&program);
        line.extend(command.split_whitespace());
        line.extend(["--config", &config]);
        run(Path::new("/usr/bin/env"), &line)
    }

    /// Starts the process; it may or may not come to serve.
    pub fn spawn(&mut self) {
        let (program, config) = (self.program.display().to_string(), self.config().display().to_string());
        let mut line: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        line.extend([program.as_str(), "run", "--config", &config]);
        self.process = Some(Process::start(&self.name, Path::new("/usr/bin/env"), &line, &self.log()).unwrap());
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_serving();
    }

    pub fn wait_until_serving(&mut self) {
        let serving = until(START, || {
            if let Err(ended) = self.process.as_mut().unwrap().check_running() {
                return Ok(Err(ended));
            }
            self.cli(&["healthcheck"]).map(|_| Ok(()))
        });
        serving.and_then(|s| s).unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// An orderly end.
    pub fn stop(&mut self) {
        self.process.take().unwrap().stop();
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// A command over the admin socket.
    pub fn cli(&self, args: &[&str]) -> Result<String, String> {
        let socket = self.socket().display().to_string();
        run(&self.program, &args.iter().copied().chain(["--socket", &socket]).collect::<Vec<_>>())
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.cli(&args).unwrap_or_else(|e| panic!("{e}"))).unwrap()
    }

    /// `/ready`: whether it is green, and what it says.
    pub fn ready(&self) -> (bool, String) {
        let text = self.http("/ready").unwrap_or_else(|e| e);
        (text.starts_with("HTTP/1.1 200"), text)
    }

    /// The sum of the series that begin with `name`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.http("/metrics").unwrap_or_else(|e| panic!("{e}"));
        let rows = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn http(&self, path: &str) -> Result<String, String> {
        let say = |e: std::io::Error| format!("{path}: {e}");
        let mut stream = TcpStream::connect_timeout(&self.metrics, Duration::from_secs(5)).map_err(say)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(say)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n").map_err(say)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(say)?;
        Ok(text)
    }
}
