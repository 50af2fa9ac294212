//! Whether so many nodes fit on this machine, and over how many processes and addresses they are spread.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proc;

/// Connections of one loopback address: chancery-ca takes 4,096 of one source unless told otherwise.
const PER_LOOPBACK: usize = 4000;
/// Memory of one node here, with its connection and its TLS state, generously.
const NODE_BYTES: u64 = 128 << 10;
/// Loopback addresses in use at most: 127.0.0.1 to 127.0.0.250.
const MOST_LOOPBACK: usize = 250;

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files one process may have open.
    pub files: u64,
    /// Ports one source address may connect from.
    pub ports: usize,
    /// Bytes that are free.
    pub memory: u64,
}

/// How nodes are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Processes, this one included where it is one.
    pub processes: usize,
    /// Addresses connections come from, in turn; empty: whatever the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// What to tell people, where something had to be split.
    pub told: Option<String>,
}

impl Limits {
    /// Those of this machine; raises this process's own limit of open files to the most that is allowed.
    pub fn of_this_machine() -> Self {
        let now = getrlimit(Resource::Nofile);
        let most = Rlimit { current: now.maximum, maximum: now.maximum };
        let raised = setrlimit(Resource::Nofile, most).is_ok();
        let files = if raised { now.maximum } else { now.current };
        Self {
            files: files.unwrap_or(1 << 20),
            ports: ports().unwrap_or(28_232),
            memory: proc::memory_available().unwrap_or(u64::MAX),
        }
    }
}

/// Spreads `nodes` towards `server`; `processes` and `given` addresses are what the command line asks for.
///
/// # Errors
/// They do not fit: what is short, and what to do.
pub fn spread(
    nodes: usize,
    server: SocketAddr,
    processes: usize,
    given: &[IpAddr],
    limits: Limits,
) -> Result<Spread, String> {
    let needed = nodes as u64 * NODE_BYTES;
    if needed > limits.memory {
        let (needed, free) = (needed >> 20, limits.memory >> 20);
        return Err(format!(
            "{nodes} nodes need about {needed} MiB here and {free} MiB are free: ask for fewer, or use a larger machine"
        ));
    }
    // A quarter stays for connections that are being replaced.
    let per_process = usize::try_from(limits.files * 3 / 4).unwrap_or(usize::MAX).saturating_sub(64);
    if per_process == 0 {
        return Err(format!("{} open files are too few for anything: raise `ulimit -Hn`", limits.files));
    }
    let needed = nodes.div_ceil(per_process);
    let processes = processes.max(needed).max(1);
    let sources = sources(nodes, server, given, limits.ports)?;
    let mut told = Vec::new();
    if needed > 1 {
        told.push(format!("{processes} processes, as one may open {} files", limits.files));
    } else if processes > 1 {
        told.push(format!("{processes} processes, as asked"));
    }
    if sources.len() > 1 {
        let (first, last) = (sources[0], sources[sources.len() - 1]);
        told.push(format!("{} source addresses, {first} to {last}", sources.len()));
    }
    let told = (!told.is_empty()).then(|| format!("{nodes} nodes are split over {}", told.join(" and over ")));
    Ok(Spread { processes, sources, told })
}

fn sources(nodes: usize, server: SocketAddr, given: &[IpAddr], ports: usize) -> Result<Vec<IpAddr>, String> {
    let usable = ports * 3 / 4;
    if !given.is_empty() {
        return match nodes.div_ceil(given.len()) > usable {
            true => Err(format!(
                "{} --source addresses have {usable} ports each, which {nodes} nodes exceed: give more",
                given.len()
            )),
            false => Ok(given.to_vec()),
        };
    }
    if !server.ip().is_loopback() || server.is_ipv6() {
        return match nodes > usable {
            true => Err(format!(
                "{nodes} nodes exceed the {usable} ports of one address: give more addresses of this machine by --source"
            )),
            false => Ok(Vec::new()),
        };
    }
    let count = nodes.div_ceil(PER_LOOPBACK.min(usable.max(1))).max(1);
    if count > MOST_LOOPBACK {
        return Err(format!("{nodes} nodes need {count} loopback addresses; {MOST_LOOPBACK} are used at most"));
    }
    let address = |last: usize| IpAddr::V4(Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap_or(u8::MAX)));
    Ok((1..=count).map(address).collect())
}

/// A warning for each process of the server that may not open as many files as there will be connections.
pub fn short_servers(nodes: usize, pids: &[u32]) -> Vec<String> {
    let short = |pid: &u32| {
        let files = proc::open_files(*pid)?;
        (files < nodes as u64 + 64).then(|| {
            format!("the server's process {pid} may open {files} files, fewer than {nodes} nodes need: raise its `ulimit -n` (systemd: LimitNOFILE)")
        })
    };
    pids.iter().filter_map(short).collect()
}

fn ports() -> Option<usize> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<usize>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(high.checked_sub(low)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { files: 4096, ports: 28_232, memory: 8 << 30 };

    fn on(server: &str, nodes: usize) -> Result<Spread, String> {
        spread(nodes, server.parse().unwrap(), 1, &[], LIMITS)
    }

    #[test]
    fn a_few_nodes_are_not_split_and_nothing_is_said() {
        let spread = on("127.0.0.1:8081", 3000).unwrap();
        assert_eq!((spread.processes, spread.sources.len(), spread.told), (1, 1, None));
    }

    #[test]
    fn many_nodes_are_split_over_processes_and_loopback_addresses_and_it_is_said() {
        let spread = on("127.0.0.1:8081", 10_000).unwrap();
        assert_eq!((spread.processes, spread.sources.len()), (4, 3));
        let told = spread.told.unwrap();
        assert!(told.contains("4 processes") && told.contains("127.0.0.1 to 127.0.0.3"), "{told}");
    }

    #[test]
    fn a_server_elsewhere_gets_no_loopback_addresses_and_has_the_ports_of_one() {
        assert_eq!(on("192.0.2.1:8081", 3000).unwrap().sources, Vec::<IpAddr>::new());
        assert!(on("192.0.2.1:8081", 30_000).unwrap_err().contains("--source"));
        let two: Vec<IpAddr> = vec!["192.0.2.8".parse().unwrap(), "192.0.2.9".parse().unwrap()];
        assert_eq!(spread(30_000, "192.0.2.1:1".parse().unwrap(), 1, &two, LIMITS).unwrap().sources, two);
        assert!(spread(90_000, "192.0.2.1:1".parse().unwrap(), 1, &two, LIMITS).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_made() {
        assert!(on("127.0.0.1:1", 100_000).unwrap_err().contains("MiB"));
        let roomy = Limits { memory: u64::MAX, ..LIMITS };
        assert!(spread(1_100_000, "127.0.0.1:1".parse().unwrap(), 1, &[], roomy).unwrap_err().contains("250"));
        let tight = Limits { files: 64, ..LIMITS };
        assert!(spread(1, "127.0.0.1:1".parse().unwrap(), 1, &[], tight).unwrap_err().contains("ulimit"));
    }
}
