//! TCP connections that notice when the other host is gone.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::net::sockopt;

/// Between two probes that nobody answered.
const AGAIN: Duration = Duration::from_secs(5);
/// Probes without an answer after which the connection is over.
const PROBES: u32 = 3;

/// Sends at once, and has the kernel end `tcp` where the other host is gone: `quiet` and 15 s after it was heard last. Three
/// probes, 5 s apart, go out in the end. The kernel answers for the other process, so that one that stands still is not
/// noticed; and thousands of quiet connections cost the program nothing.
///
/// # Errors
/// What the kernel says.
pub fn watched(tcp: &impl AsFd, quiet: Duration) -> io::Result<()> {
    sockopt::set_tcp_nodelay(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, quiet)?;
    sockopt::set_tcp_keepintvl(tcp, AGAIN)?;
    sockopt::set_tcp_keepcnt(tcp, PROBES)?;
    // Of what was sent and not confirmed. Shorter than this it would end the connection at the first lost probe.
    let unconfirmed = quiet + AGAIN * PROBES;
    sockopt::set_tcp_user_timeout(tcp, u32::try_from(unconfirmed.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_socket_keepalive(tcp, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_is_told_all_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        watched(&tcp, Duration::from_secs(20)).unwrap();
        assert!(sockopt::tcp_nodelay(&tcp).unwrap() && sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), Duration::from_secs(20));
        assert_eq!(sockopt::tcp_keepintvl(&tcp).unwrap(), Duration::from_secs(5));
        assert_eq!(sockopt::tcp_keepcnt(&tcp).unwrap(), 3);
        assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 35_000);
    }
}
