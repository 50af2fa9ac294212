//! What the CA's door for metrics tells: plain HTTP, as a load balancer and Prometheus ask it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status of `GET /ready`: 200, or 503 while the CA cannot sign.
///
/// # Errors
/// No answer.
pub fn ready(door: SocketAddr) -> Result<u16, String> {
    Ok(get(door, "/ready")?.0)
}

/// The sum of a series' rows that have `label`, as `name="value"`; of all of them where it is empty.
///
/// # Errors
/// No answer, or no such series.
pub fn sum(door: SocketAddr, series: &str, label: &str) -> Result<i64, String> {
    let (_, text) = get(door, "/metrics")?;
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(series)).collect();
    if rows.is_empty() {
        return Err(format!("/metrics has no {series}"));
    }
    let of_label = rows.iter().filter(|row| row.contains(label));
    Ok(of_label.filter_map(|row| row.rsplit(' ').next()?.parse::<i64>().ok()).sum())
}

fn get(door: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let say = |e: std::io::Error| format!("http://{door}{path}: {e}");
    let mut tcp = TcpStream::connect_timeout(&door, PATIENCE).map_err(say)?;
    tcp.set_read_timeout(Some(PATIENCE)).map_err(say)?;
    write!(tcp, "GET {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n").map_err(say)?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).map_err(say)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("http://{door}{path}: no head"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| format!("http://{door}{path}: no status"))?, body.to_owned()))
}
