//! How long a credential lives: what was asked, held inside every limit that applies.

use chancery_sdk::time::UnixTime;
use thiserror::Error;

/// Seconds a certificate's notBefore lies in the past, for clocks that lag.
pub const BACKDATE_SECS: i64 = 10;
/// Shortest lifetime in seconds that is issued.
pub const MIN_TTL_SECS: i64 = 10;

/// Lifetimes of one kind of credential, in seconds; checked once at start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Profile {
    default_secs: i64,
    max_secs: i64,
}

/// Ends that nothing issued may outlive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// notAfter of the authority that signs.
    pub issuer: UnixTime,
    /// notAfter of the node SVID the request came with; `None` for local operators and the server itself.
    pub node: Option<UnixTime>,
}

/// From when to when a credential is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// [`BACKDATE_SECS`] before now.
    pub not_before: UnixTime,
    /// First second it is no longer good for anything new.
    pub not_after: UnixTime,
}

/// Why no lifetime can be given.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum LifetimeError {
    /// The signing authority ends too soon.
    #[error("the issuing authority has {left} s left, a credential needs at least {MIN_TTL_SECS} s")]
    IssuerExpiring {
        /// Seconds left; negative when it has ended.
        left: i64,
    },
    /// The node's own SVID ends too soon.
    #[error("the node SVID has {left} s left, a credential needs at least {MIN_TTL_SECS} s")]
    NodeExpiring {
        /// Seconds left; negative when it has ended.
        left: i64,
    },
    /// A profile whose default lies outside its limits.
    #[error("lifetime of {default} s must lie between {MIN_TTL_SECS} s and its cap of {max} s")]
    Profile {
        /// Seconds configured.
        default: i64,
        /// Cap configured.
        max: i64,
    },
    /// A lifetime asked for that no profile grants.
    #[error("lifetime of {asked} s must be 0 (the default) or lie between {MIN_TTL_SECS} s and {max} s")]
    TtlOutOfRange {
        /// Seconds asked.
        asked: i64,
        /// Cap configured.
        max: i64,
    },
}

impl Profile {
    /// Checks a default against its cap.
    ///
    /// # Errors
    /// [`LifetimeError::Profile`].
    pub const fn new(default_secs: i64, max_secs: i64) -> Result<Self, LifetimeError> {
        if default_secs < MIN_TTL_SECS || default_secs > max_secs {
            return Err(LifetimeError::Profile { default: default_secs, max: max_secs });
        }
        Ok(Self { default_secs, max_secs })
    }

    /// Lifetime given where none is asked for.
    pub fn default_secs(self) -> i64 {
        self.default_secs
    }

    /// Checks a lifetime an operator writes into a class.
    ///
    /// # Errors
    /// [`LifetimeError::TtlOutOfRange`].
    pub fn check(self, asked: i64) -> Result<(), LifetimeError> {
        if asked == 0 || (MIN_TTL_SECS..=self.max_secs).contains(&asked) {
            return Ok(());
        }
        Err(LifetimeError::TtlOutOfRange { asked, max: self.max_secs })
    }

    /// Clamps a requested lifetime to what profile, node and issuer can honour.
    ///
    /// `asked` is whole seconds; 0 or less means the profile's default. Never ends after a limit.
    ///
    /// # Errors
    /// [`LifetimeError::IssuerExpiring`] or [`LifetimeError::NodeExpiring`] if less than `MIN_TTL_SECS` would remain.
    ///
    /// Source: ARCHITECTURE, Identities (lifetimes); RFC 5280, 4.1.2.5.
    pub fn clamp(self, asked: i64, limits: Limits, now: UnixTime) -> Result<Validity, LifetimeError> {
        let wanted = if asked <= 0 { self.default_secs } else { asked.clamp(MIN_TTL_SECS, self.max_secs) };
        let left = limits.issuer.since(now);
        if left < MIN_TTL_SECS {
            return Err(LifetimeError::IssuerExpiring { left });
        }
        let mut not_after = now.plus(wanted).min(limits.issuer);
        if let Some(node) = limits.node {
            let left = node.since(now);
            if left < MIN_TTL_SECS {
                return Err(LifetimeError::NodeExpiring { left });
            }
            not_after = not_after.min(node);
        }
        Ok(Validity { not_before: now.plus(-BACKDATE_SECS), not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn clamp(asked: i64, node: Option<i64>, issuer: i64) -> Result<i64, LifetimeError> {
        let limits = Limits { issuer: NOW.plus(issuer), node: node.map(|n| NOW.plus(n)) };
        Profile::new(900, 3600).unwrap().clamp(asked, limits, NOW).map(|v| v.not_after.since(NOW))
    }

    #[test]
    fn lifetime_stays_inside_every_limit() {
        let cases = [
            (0, None, 86_400, Ok(900)),
            (-5, None, 86_400, Ok(900)),
            (60, None, 86_400, Ok(60)),
            (1, None, 86_400, Ok(10)),
            (9_999, None, 86_400, Ok(3_600)),
            (0, Some(300), 86_400, Ok(300)),
            (0, Some(300), 200, Ok(200)),
            (i64::MAX, Some(10), 10, Ok(10)),
            (0, Some(9), 86_400, Err(LifetimeError::NodeExpiring { left: 9 })),
            (0, Some(-1), 86_400, Err(LifetimeError::NodeExpiring { left: -1 })),
            (0, Some(300), 9, Err(LifetimeError::IssuerExpiring { left: 9 })),
        ];
        for (asked, node, issuer, want) in cases {
            assert_eq!(clamp(asked, node, issuer), want, "{asked} {node:?} {issuer}");
        }
    }

    #[test]
    fn certificates_begin_ten_seconds_back() {
        let limits = Limits { issuer: NOW.plus(9_999), node: None };
        assert_eq!(Profile::new(10, 10).unwrap().clamp(0, limits, NOW).unwrap().not_before, NOW.plus(-10));
    }

    #[test]
    fn profile_outside_its_limits_does_not_load() {
        assert!(Profile::new(9, 100).is_err());
        assert!(Profile::new(101, 100).is_err());
    }

    #[test]
    fn class_lifetime_beyond_the_cap_is_told() {
        let profile = Profile::new(900, 3600).unwrap();
        assert_eq!(profile.check(3601), Err(LifetimeError::TtlOutOfRange { asked: 3601, max: 3600 }));
        assert!(profile.check(9).is_err() && profile.check(0).is_ok() && profile.check(10).is_ok());
    }
}
