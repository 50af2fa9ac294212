//! A network that goes silent between one server and the database; its nodes still reach that server.
//!
//! The server is in a network namespace with two ways out: one to the nodes, one to the database, which is cut.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use chancery_tests::{
    playground::free_address,
    process::{run, until},
};

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    report::{installed, ran, root, rounds, skipped},
    server::Server,
    stage::{Stage, folder},
};

/// Until nodes of the cut-off server have an SVID of the other one.
const MOVED: Duration = Duration::from_secs(10);
/// Until the cut-off server says so: its view may be 5 s old, and a read may take 4 s.
const TOLD: Duration = Duration::from_secs(15);
/// From the moment the network is whole again until the server serves.
const BACK: Duration = Duration::from_secs(15);
/// SVIDs between two faults.
const CALM: usize = 40;

/// A namespace and its two pairs of interfaces; gone when dropped.
struct Net {
    name: String,
    subnet: u8,
}

impl Net {
    /// `None` where the system has none for us.
    fn new() -> Option<Self> {
        let pid = std::process::id();
        let this = Self { name: format!("chy{}", pid % 100_000), subnet: u8::try_from(pid % 200).ok()? };
        ip(&["netns", "add", &this.name]).ok()?;
        for (link, net) in [("d", 100), ("m", 101)] {
            let (outer, inner) = (format!("{}{link}", this.name), format!("{}{link}i", this.name));
            let made = [
                ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &this.name]),
                ip(&["addr", "add", &format!("10.{net}.{}.1/30", this.subnet), "dev", &outer]),
                ip(&["link", "set", &outer, "up"]),
                ip(&["-n", &this.name, "addr", "add", &format!("10.{net}.{}.2/30", this.subnet), "dev", &inner]),
                ip(&["-n", &this.name, "link", "set", &inner, "up"]),
                ip(&["-n", &this.name, "link", "set", "lo", "up"]),
            ];
            made.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
        }
        Some(this)
    }

    /// Where the database is for the server.
    fn database(&self) -> String {
        format!("10.100.{}.1", self.subnet)
    }

    /// Where the server is for its nodes.
    fn server(&self) -> String {
        format!("10.101.{}.2", self.subnet)
    }

    /// Cuts, or mends, the way to the database. Nobody is told: what is sent is dropped.
    fn cut(&self, cut: bool) {
        ip(&["link", "set", &format!("{}d", self.name), if cut { "down" } else { "up" }]).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<String, String> {
    run(Path::new("ip"), args)
}

#[test]
fn a_server_cut_off_from_the_database_grants_nothing_and_comes_back() {
    let fault = "a partition between network namespaces";
    if !root(fault, "make network namespaces") || !installed(fault, "ip", "iproute2") {
        return;
    }
    let Some(net) = Net::new() else {
        return skipped(fault, "this system gives no network namespaces");
    };
    let reachable = Command::new("ip").args(["netns", "exec", &net.name, "true"]).status();
    assert!(reachable.is_ok_and(|status| status.success()));
    let cluster = Cluster::start_at(&["127.0.0.1", &net.database()], &[]);
    let folder = folder();
    let near = Server::new(folder.path(), "ca-0", &cluster.url(), "");
    let doors = [(); 2].map(|()| format!("{}:{}", net.server(), free_address().unwrap().port()).parse().unwrap());
    let mut far = Server::at(folder.path(), "ca-1", &cluster.url_at(&net.database()), doors, "");
    far.prefix = ["ip", "netns", "exec", &net.name].map(str::to_owned).to_vec();
    let mut stage = Stage::raise(folder, vec![near, far]);
    let load = stage.load();
    let (mut longest, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds() {
        load.go_on(CALM, MOVED);
        stage.more_nodes(1);
        let banned = stage.nodes.last().unwrap();
        net.cut(true);
        let since = Instant::now();
        stage.servers[0].cli(&["node", "ban", &banned.id]).unwrap();
        longest = longest.max(load.back(since, |_| true, MOVED));
        let far = &stage.servers[1];
        until(TOLD, || match far.ready() {
            (false, text) => {
                assert!(stage.runtime.block_on(banned.issue(1)).is_err(), "released after the ban");
                if text.contains("view: ") { Ok(()) } else { Err(text) }
            }
            (true, text) => Err(text),
        })
        .unwrap_or_else(|e| panic!("the cut-off server does not say so: {e}"));
        net.cut(false);
        let since = Instant::now();
        until(BACK, || stage.runtime.block_on(stage.nodes[0].issue(1)).map_err(|e| e.to_string())).unwrap();
        slowest = slowest.max(since.elapsed());
        assert!(stage.runtime.block_on(banned.issue(1)).is_err(), "released after the ban");
        let ledger = Ledger::of(&stage.servers[0]);
        ledger.check_silent_after(&banned.id, ledger.number_of("node.banned", &banned.id));
    }
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    let times = format!("nodes moved within {longest:?} of {MOVED:?}, the server back in {slowest:?} of {BACK:?}");
    ran(fault, &format!("{times}; {figures}"));
}
