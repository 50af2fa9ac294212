//! How long after a revocation somebody may still accept what was revoked, at worst: a sum of what the configuration says.
//!
//! Pure. From the commit on nobody is given anything new; this is about those who hold an SVID or token already, and those who judge
//! it. Their clocks are taken to be right. Called by the command line, and by the test that measures it.

use std::time::Duration;

use crate::config::Config;

/// A server that no `NOTIFY` reached looks at the log: the view's pace.
const SERVER_HEARS: Duration = Duration::from_secs(1);
/// Least time between two messages of Watch with revocations to one node.
const WATCH_QUIET: Duration = Duration::from_millis(250);
/// From a server to its node and on to the process, with all of them to be told.
const DELIVERY: Duration = Duration::from_secs(1);
/// A certificate is valid through its last second (RFC 5280, 4.1.2.5), a token is not (RFC 7519, 4.1.4).
const LAST_SECOND: Duration = Duration::from_secs(1);
/// How long an attestor waits for the answer to its ping.
const PING_ANSWER: Duration = Duration::from_secs(5);
/// A list that was on its way to the signature when the revocation was committed lacks it, and is that much younger.
const CRL_SIGNED: Duration = Duration::from_secs(1);

/// What was revoked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credential {
    /// X509-SVID of an entry.
    EntryX509,
    /// X509-SVID of an instance.
    InstanceX509,
    /// JWT-SVID of an entry or an instance.
    Jwt,
    /// X509-SVID that an operator minted.
    MintedX509,
}

/// Who judges it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    /// Our SDK, or `ValidateJWTSVID`, at our attestor, which hears a server.
    Online,
    /// The same while that server stands still: until the attestor leaves it.
    ServerStill,
    /// The same, cut off from everybody who could tell it.
    Offline,
    /// Somebody else, who reads the CRL and takes the next one when the one held ends.
    ThirdPartyCrl,
    /// Somebody else, who reads nothing.
    ThirdParty,
}

/// One line of the answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bound {
    /// What was revoked.
    pub credential: Credential,
    /// Who judges it.
    pub party: Party,
    /// Nobody of that kind accepts it for longer.
    pub longest: Duration,
    /// Keys of the configuration that it comes from; `ca_ping_interval` is the nodes'.
    pub keys: Vec<&'static str>,
}

impl Credential {
    const ALL: [Self; 4] = [Self::InstanceX509, Self::EntryX509, Self::MintedX509, Self::Jwt];

    /// For machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EntryX509 => "entry_x509_svid",
            Self::InstanceX509 => "instance_x509_svid",
            Self::Jwt => "jwt_svid",
            Self::MintedX509 => "minted_x509_svid",
        }
    }
}

impl Party {
    const ALL: [Self; 5] = [Self::Online, Self::ServerStill, Self::Offline, Self::ThirdPartyCrl, Self::ThirdParty];

    /// For machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "sdk_offline",
            Self::Online => "sdk_online",
            Self::ServerStill => "sdk_server_stands_still",
            Self::ThirdParty => "third_party",
            Self::ThirdPartyCrl => "third_party_crl",
        }
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Offline => "our SDK, cut off from its attestor, or with it from every server",
            Self::Online => "our SDK at our attestor, and ValidateJWTSVID",
            Self::ServerStill => "the same, while the server that the attestor hears stands still",
            Self::ThirdParty => "anybody else",
            Self::ThirdPartyCrl => "others who read a running CA's CRL, anew when it ends",
        }
    }
}

/// Every bound that the configuration gives; nodes ping a server that says nothing every `ca_ping_interval`.
pub fn bounds(config: &Config, ca_ping_interval: Duration) -> Vec<Bound> {
    let each = Credential::ALL.into_iter().flat_map(|credential| Party::ALL.map(|party| (credential, party)));
    each.filter_map(|(credential, party)| bound(config, ca_ping_interval, credential, party)).collect()
}

/// `None` where there is no such judge: no CRL names tokens.
fn bound(config: &Config, ping: Duration, credential: Credential, party: Party) -> Option<Bound> {
    let (life, life_keys) = life(config, credential);
    let told = SERVER_HEARS + WATCH_QUIET + DELIVERY;
    let (wait, keys): (Duration, &[&'static str]) = match party {
        Party::Online => (told, &[]),
        Party::ServerStill => (told + ping + PING_ANSWER, &["ca_ping_interval"]),
        Party::Offline | Party::ThirdParty => (Duration::MAX, &[]),
        Party::ThirdPartyCrl if credential == Credential::Jwt => return None,
        // While the authority's server runs: the one signed a moment before the revocation holds as long.
        Party::ThirdPartyCrl => (config.crl.lifetime.0 + CRL_SIGNED, &["crl.lifetime"]),
    };
    let (longest, keys) = if wait < life { (wait, keys.to_vec()) } else { (life, life_keys) };
    Some(Bound { credential, party, longest, keys })
}

/// The longest that one of these lives. What is issued through a node does not outlive the node's own SVID, and nothing its authority.
fn life(config: &Config, credential: Credential) -> (Duration, Vec<&'static str>) {
    let ttl = &config.ttl;
    let (cap, key, through_node) = match credential {
        Credential::EntryX509 => (ttl.x509_svid_max, "ttl.x509_svid_max", true),
        Credential::InstanceX509 => (ttl.instance_svid_max, "ttl.instance_svid_max", true),
        // An operator's tokens have the same cap, and no node.
        Credential::Jwt => (ttl.jwt_svid_max, "ttl.jwt_svid_max", false),
        Credential::MintedX509 => (ttl.x509_svid_max, "ttl.x509_svid_max", false),
    };
    let mut limits = vec![(cap.0, key), (ttl.ca.0, "ttl.ca")];
    if through_node {
        limits.push((ttl.node_svid.0, "ttl.node_svid"));
    }
    let least = limits.iter().map(|(span, _)| *span).min().unwrap_or_default();
    let last = if credential == Credential::Jwt { Duration::ZERO } else { LAST_SECOND };
    (least + last, limits.into_iter().filter(|(span, _)| *span == least).map(|(_, key)| key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "trust_domain = \"example.org\"\ndata_dir = \"/var/lib/chancery\"\n";

    fn of(extra: &str, credential: Credential, party: Party) -> (u64, Vec<&'static str>) {
        let config = chancery_daemon::config::parse(&format!("{LEAST}{extra}")).unwrap();
        let all = bounds(&config, Duration::from_secs(60));
        let one = all.into_iter().find(|bound| (bound.credential, bound.party) == (credential, party)).unwrap();
        (one.longest.as_secs(), one.keys)
    }

    #[test]
    fn who_hears_nothing_accepts_until_the_longest_life_that_may_be_asked_for() {
        for party in [Party::Offline, Party::ThirdParty] {
            let keys = vec!["ttl.instance_svid_max", "ttl.node_svid"];
            assert_eq!(of("", Credential::InstanceX509, party), (3601, keys));
            assert_eq!(
                of("", Credential::EntryX509, party),
                (3601, vec!["ttl.node_svid"]),
                "less than the cap of a day"
            );
            let keys = vec!["ttl.x509_svid_max", "ttl.ca"];
            assert_eq!(of("", Credential::MintedX509, party), (86_401, keys), "no node stands behind it");
            assert_eq!(of("", Credential::Jwt, party), (3600, vec!["ttl.jwt_svid_max"]));
        }
        let shorter = "[ttl]\ninstance_svid_max = \"15m\"\n";
        assert_eq!(of(shorter, Credential::InstanceX509, Party::Offline), (901, vec!["ttl.instance_svid_max"]));
    }

    #[test]
    fn who_is_told_accepts_for_seconds_and_never_longer_than_the_life() {
        assert_eq!(of("", Credential::InstanceX509, Party::Online), (2, vec![]));
        assert_eq!(of("", Credential::Jwt, Party::ServerStill), (67, vec!["ca_ping_interval"]));
        let short = "[ttl]\ninstance_svid = \"30s\"\ninstance_svid_max = \"30s\"\n";
        let told = of(short, Credential::InstanceX509, Party::ServerStill);
        assert_eq!(told, (31, vec!["ttl.instance_svid_max"]));
    }

    #[test]
    fn a_list_helps_as_far_as_it_is_shorter_than_the_life() {
        assert_eq!(of("", Credential::InstanceX509, Party::ThirdPartyCrl).0, 3601, "a list of an hour");
        let short = "[crl]\nlifetime = \"5m\"\n";
        let told = of(short, Credential::InstanceX509, Party::ThirdPartyCrl);
        assert_eq!(told, (301, vec!["crl.lifetime"]));
        let config = chancery_daemon::config::parse(LEAST).unwrap();
        let jwt_by_crl = |bound: &Bound| (bound.credential, bound.party) == (Credential::Jwt, Party::ThirdPartyCrl);
        assert!(!bounds(&config, Duration::from_secs(60)).iter().any(jwt_by_crl), "no CRL names a token");
    }
}
