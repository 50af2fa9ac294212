//! Rates of the calls that cost most, by the source they come from: SPIRE's limits, so that its tools meet what they know.
//!
//! A call over its rate waits for its turn. Bursts are one second's worth, so a source is forgotten a second after its
//! last call. Callers on the admin socket and on loopback have no rate: they are this machine, and behind a proxy on it
//! everybody would share one. Keeps one source out of everybody else's way; it is no security claim.
//!
//! Source: spire-wire 1.0.4.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{config::Limits, limits::Prefix, peer::Peer, problem::Problem};

/// Longest wait for a turn; SPIRE's clients give up then.
const PATIENCE: Duration = Duration::from_secs(30);
/// PostStatus and the publishing of keys have no key in the configuration, as in SPIRE.
const STATUS_RATE: u32 = 10;
const PUBLISH_RATE: u32 = 500;
/// Sources remembered at once, about 1 MiB; one over it is told to come again.
const MAX_SOURCES: usize = 16_384;

/// Calls that share a rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rate {
    /// AttestAgent.
    Attest,
    /// X509-SVIDs by CSR: BatchNewX509SVID, RenewAgent.
    Csr,
    /// NewJWTSVID.
    Jwt,
    /// PublishJWTAuthority.
    Publish,
    /// PostStatus.
    Status,
}

/// One turnstile for each rate.
#[derive(Debug)]
pub struct Throttle {
    attest: Turnstile,
    csr: Turnstile,
    jwt: Turnstile,
    publish: Turnstile,
    status: Turnstile,
}

/// So many calls a second of each source.
#[derive(Debug)]
struct Turnstile {
    /// 0 = no limit.
    per_second: u32,
    // Guards the moments at which each source has its whole second's worth again; held for one look-up, never over an await.
    full_at: Mutex<HashMap<Source, Instant>>,
}

/// An IPv4 address, or an IPv6 /64: whoever has one of those has all of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Source {
    V4(IpAddr),
    V6(Prefix),
}

impl Throttle {
    /// The rates of the configuration.
    pub fn new(limits: &Limits) -> Self {
        Self {
            attest: Turnstile::new(limits.attest_rate),
            csr: Turnstile::new(limits.signing_rate),
            jwt: Turnstile::new(limits.signing_rate),
            publish: Turnstile::new(PUBLISH_RATE),
            status: Turnstile::new(STATUS_RATE),
        }
    }

    /// Waits for the turn of a call that costs as much as `cost` single ones.
    ///
    /// # Errors
    /// [`Problem::Exhausted`] where it could never pass, or not within [`PATIENCE`].
    pub async fn pass(&self, rate: Rate, peer: &Peer, cost: usize) -> Result<(), Problem> {
        let Some(source) = peer.source.filter(|addr| !addr.to_canonical().is_loopback()) else { return Ok(()) };
        let turnstile = match rate {
            Rate::Attest => &self.attest,
            Rate::Csr => &self.csr,
            Rate::Jwt => &self.jwt,
            Rate::Publish => &self.publish,
            Rate::Status => &self.status,
        };
        tokio::time::sleep_until(turnstile.turn(source, cost, Instant::now())?).await;
        Ok(())
    }
}

impl Turnstile {
    fn new(per_second: u32) -> Self {
        Self { per_second, full_at: Mutex::default() }
    }

    /// When a call may go on; its cost is taken now, so that calls keep their order.
    fn turn(&self, source: IpAddr, cost: usize, now: Instant) -> Result<Instant, Problem> {
        if self.per_second == 0 {
            return Ok(now);
        }
        let burst = self.per_second;
        let cost = u32::try_from(cost).ok().filter(|cost| *cost <= burst).ok_or_else(|| {
            Problem::Exhausted(format!("a call of {cost} exceeds the {burst} a second that one source may make"))
        })?;
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Source::of(source);
        if full_at.len() >= MAX_SOURCES && !full_at.contains_key(&source) {
            full_at.retain(|_, full| *full > now);
            if full_at.len() >= MAX_SOURCES {
                return Err(Problem::Exhausted(format!("{MAX_SOURCES} sources call at once; try again")));
            }
        }
        let one_second = Duration::from_secs(1);
        let full = full_at.get(&source).copied().filter(|full| *full > now).unwrap_or(now) + one_second * cost / burst;
        let turn = full.checked_sub(one_second).filter(|turn| *turn > now).unwrap_or(now);
        if turn > now + PATIENCE {
            return Err(Problem::Exhausted(format!("more than {burst} calls a second of one source")));
        }
        full_at.insert(source, full);
        Ok(turn)
    }
}

impl Source {
    fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            v4 @ IpAddr::V4(_) => Self::V4(v4),
            v6 @ IpAddr::V6(_) => Self::V6(Prefix::from(v6)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::LocalPeer;

    fn of(addr: &str) -> Peer {
        let mut peer = Peer::local(LocalPeer { uid: 0, pid: 1 });
        (peer.local, peer.source) = (None, Some(addr.parse().unwrap()));
        peer
    }

    fn throttle() -> Throttle {
        Throttle::new(&Limits { attest_rate: 1, signing_rate: 5, ..Limits::default() })
    }

    async fn waited(throttle: &Throttle, rate: Rate, peer: &Peer, cost: usize) -> Option<u128> {
        let began = Instant::now();
        throttle.pass(rate, peer, cost).await.ok().map(|()| began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_seconds_worth_passes_at_once_and_the_rest_at_its_rate() {
        let (throttle, peer) = (throttle(), of("192.0.2.1"));
        assert_eq!(waited(&throttle, Rate::Attest, &peer, 1).await, Some(0));
        assert_eq!(waited(&throttle, Rate::Attest, &peer, 1).await, Some(1000));
        for want in [0, 0, 0, 0, 0, 200, 200] {
            assert_eq!(waited(&throttle, Rate::Jwt, &peer, 1).await, Some(want));
        }
        assert_eq!(waited(&throttle, Rate::Csr, &peer, 5).await, Some(0), "another rate");
        assert_eq!(waited(&throttle, Rate::Csr, &peer, 5).await, Some(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_does_not_slow_another_and_a_64_is_one_source() {
        let throttle = throttle();
        for (addr, want) in
            [("192.0.2.1", 0), ("192.0.2.2", 0), ("::ffff:192.0.2.1", 1000), ("2001:db8::1", 0), ("2001:db8::2", 1000)]
        {
            assert_eq!(waited(&throttle, Rate::Attest, &of(addr), 1).await, Some(want), "{addr}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn this_machine_has_no_rate() {
        let throttle = throttle();
        for peer in [of("127.0.0.1"), of("::1"), Peer::local(LocalPeer { uid: 0, pid: 1 })] {
            for _ in 0..10 {
                assert_eq!(waited(&throttle, Rate::Attest, &peer, 1000).await, Some(0));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_beyond_the_burst_or_the_patience_is_refused_at_once() {
        let (throttle, peer) = (throttle(), of("192.0.2.1"));
        assert!(matches!(throttle.pass(Rate::Csr, &peer, 6).await, Err(Problem::Exhausted(_))));
        let turnstile = Turnstile::new(1);
        let (addr, now) = ("192.0.2.1".parse().unwrap(), Instant::now());
        let passed = (0..100).filter(|_| turnstile.turn(addr, 1, now).is_ok()).count();
        assert_eq!(passed, 31, "one now, and one for each second of patience");
        // What was refused took nothing: a second later there is one more turn.
        assert!(turnstile.turn(addr, 1, now + Duration::from_secs(1)).is_ok());
        assert!(turnstile.turn(addr, 1, now + Duration::from_secs(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn no_rate_is_no_limit_and_sources_are_forgotten() {
        let now = Instant::now();
        let free = Turnstile::new(0);
        assert!((0..1000).all(|_| free.turn("192.0.2.1".parse().unwrap(), 1_000_000, now).unwrap() == now));
        let turnstile = Turnstile::new(1);
        let source = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
        let many = u32::try_from(MAX_SOURCES).unwrap();
        assert!((0..many).all(|n| turnstile.turn(source(n), 1, now).is_ok()));
        assert!(turnstile.turn(source(many), 1, now).is_err(), "memory is bounded");
        assert!(turnstile.turn(source(0), 1, now).is_ok(), "who is known is still served");
        assert!(turnstile.turn(source(many), 1, now + Duration::from_secs(3)).is_ok());
        assert!(turnstile.full_at.lock().unwrap().len() <= 2);
    }
}
