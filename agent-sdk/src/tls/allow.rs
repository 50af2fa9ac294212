//! Who is welcome. A peer that proves an identity is not welcome for that alone.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::{
    id::{IdError, SpiffeId, TrustDomain},
    x509::Peer,
};

/// First path segment of every instance of an agent class.
const AGENT: &str = "agent";

/// Which verified peers are welcome; there is no default on purpose.
///
/// Matching happens after the certificate was verified against the bundle of the peer's own trust
/// domain: a rule here can only narrow.
#[derive(Clone)]
pub enum Allow {
    /// Every instance of one agent class: `spiffe://TD/agent/<class>/<instance>`, where the class is
    /// all segments between `agent` and the last. Class `a` is not class `a/b`.
    Class {
        /// The trust domain of the class.
        trust_domain: TrustDomain,
        /// Its name, for example `finance/refund-agent`.
        class: String,
    },
    /// Whoever the closure says yes to; it must not block.
    Custom(Arc<dyn Fn(&Peer) -> bool + Send + Sync>),
    /// Exactly this ID.
    Id(SpiffeId),
    /// Any of these IDs.
    Ids(BTreeSet<SpiffeId>),
    /// Every member of the trust domain: all its services, agents and nodes.
    TrustDomain(TrustDomain),
}

impl Allow {
    /// Welcomes every instance of `class`.
    ///
    /// # Errors
    /// [`IdError`] when the name could not be part of an ID, for example `/a`, `a//b` or the empty one.
    pub fn class(trust_domain: &TrustDomain, class: &str) -> Result<Self, IdError> {
        let segments: Vec<&str> = class.split('/').collect();
        SpiffeId::from_segments(trust_domain, &segments)?;
        Ok(Self::Class { trust_domain: trust_domain.clone(), class: class.to_owned() })
    }

    /// Welcomes whoever `says` yes to; it is called in the handshake and must not block.
    pub fn custom(says: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(says))
    }

    /// Welcomes exactly `id`.
    pub fn id(id: &SpiffeId) -> Self {
        Self::Id(id.clone())
    }

    /// Welcomes any of `ids`; an empty list welcomes nobody.
    pub fn ids(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self::Ids(ids.into_iter().collect())
    }

    /// Welcomes every member of `domain`.
    pub fn trust_domain(domain: &TrustDomain) -> Self {
        Self::TrustDomain(domain.clone())
    }

    /// Whether `peer`, which was verified, is welcome.
    pub fn welcomes(&self, peer: &Peer) -> bool {
        match self {
            Self::Class { trust_domain, class } => {
                peer.id.is_member_of(trust_domain) && class_of(&peer.id) == Some(class)
            }
            Self::Custom(says) => says(peer),
            Self::Id(id) => peer.id == *id,
            Self::Ids(ids) => ids.contains(&peer.id),
            Self::TrustDomain(domain) => peer.id.is_member_of(domain),
        }
    }
}

/// The class in an instance's ID; none when the ID is not of an instance.
fn class_of(id: &SpiffeId) -> Option<&str> {
    let (class, _instance) = id.path().strip_prefix('/')?.strip_prefix(AGENT)?.strip_prefix('/')?.rsplit_once('/')?;
    Some(class)
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class { trust_domain, class } => write!(f, "Class({trust_domain}, {class})"),
            Self::Custom(_) => f.write_str("Custom"),
            Self::Id(id) => write!(f, "Id({id})"),
            Self::Ids(ids) => f.debug_tuple("Ids").field(ids).finish(),
            Self::TrustDomain(domain) => write!(f, "TrustDomain({domain})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_in(id: &str) -> Option<String> {
        class_of(&SpiffeId::parse(id).unwrap()).map(str::to_owned)
    }

    #[test]
    fn a_class_is_all_segments_between_agent_and_the_last() {
        assert_eq!(class_in("spiffe://td/agent/a/x").as_deref(), Some("a"));
        assert_eq!(class_in("spiffe://td/agent/a/b/x").as_deref(), Some("a/b"));
        for other in [
            "spiffe://td",
            "spiffe://td/agent",
            "spiffe://td/agent/a",
            "spiffe://td/agents/a/x",
            "spiffe://td/w/agent/a/x",
        ] {
            assert_eq!(class_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_class_name_that_no_id_could_hold_is_refused() {
        let td = TrustDomain::new("td").unwrap();
        for bad in ["", "/a", "a/", "a//b", "a b", ".."] {
            assert!(Allow::class(&td, bad).is_err(), "{bad:?}");
        }
        assert!(Allow::class(&td, "finance/refund-agent").is_ok());
    }
}
