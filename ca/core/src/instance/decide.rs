//! May this process be, or stay, an instance?

use chancery_sdk::{
    id::{IdError, SpiffeId, TrustDomain},
    time::UnixTime,
};
use thiserror::Error;
use uuid::Uuid;

use super::{Instance, Standing};
use crate::{
    class::{Class, ClassName, NodeProof},
    csr::Csr,
    leaf::{JwtGrant, Leaf, LeafError},
    lifetime::{LifetimeError, Limits, Profile},
    node::{self, Node},
    reason::Reason,
    selector::Selectors,
};

/// Most instances of one node that run at once.
pub const MAX_LIVE_PER_NODE: usize = 256;
/// Most selectors an attestor may send of one process.
pub const MAX_PROCESS_SELECTORS: usize = 256;

/// What is known when a process asks to begin. Everything comes from the store or the request; nothing is believed twice.
#[derive(Clone, Copy, Debug)]
pub struct BeginFacts<'a> {
    /// Our trust domain.
    pub domain: &'a TrustDomain,
    /// The node that asks, as the store has it.
    pub node: &'a Node,
    /// Classes the node reaches.
    pub classes: &'a [&'a Class],
    /// The class the attestor asks for.
    pub asked: &'a ClassName,
    /// What the attestor saw of the process.
    pub selectors: &'a Selectors,
    /// The instance this start token began before, if any. Whether one ended, the committing transaction knows.
    pub known: Option<&'a Instance>,
    /// Whether the request's key is the one `known` has, as far as is known; the committing transaction asks again.
    pub same_key: bool,
    /// Running instances of the node.
    pub live: usize,
    /// What an operator barred.
    pub bars: Bars<'a>,
}

/// What an operator barred from beginning, as far as is known; the committing transaction asks again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bars<'a> {
    /// Classes that are closed on the node.
    pub closed: &'a [ClassName],
    /// The process's executable was revoked.
    pub executable: bool,
}

/// Chance, time and limits of one issuance.
#[derive(Clone, Copy, Debug)]
pub struct Issuance {
    /// Lifetimes of instance SVIDs.
    pub profile: Profile,
    /// Ends of node SVID and authority.
    pub limits: Limits,
    /// 16 random bytes.
    pub serial: [u8; 16],
    /// Now.
    pub now: UnixTime,
}

/// A decided beginning.
#[derive(Clone, Debug, PartialEq)]
pub enum Begin<'a> {
    /// The process was begun before with this key: the same instance, a new SVID.
    Again {
        /// Its SVID.
        leaf: Leaf,
    },
    /// A new instance.
    New {
        /// Its class.
        class: &'a Class,
        /// Its first SVID.
        leaf: Leaf,
    },
}

/// Why a process is no instance.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InstanceError {
    /// Begun before, with another key.
    #[error("this process is instance {0} already, with another key: reconcile and renew")]
    AlreadyBegun(SpiffeId),
    /// More than one class matches.
    #[error("the process matches more than one class: {0}; make their selectors exclude each other")]
    Ambiguous(String),
    /// An operator closed it.
    #[error("{code}: class '{0}' is closed on this node until an operator reopens it", code = Reason::ClassClosed)]
    ClassClosed(ClassName),
    /// No such class on this node, or the process does not match it.
    #[error("no class '{0}' on this node that the process matches")]
    ClassUnknown(ClassName),
    /// Ended or revoked; for ever.
    #[error("instance {id} has {standing}: its process never begins again")]
    Dead {
        /// The instance.
        id: SpiffeId,
        /// Ended or revoked.
        standing: Standing,
    },
    /// An operator revoked it.
    #[error("{}: the executable was revoked", Reason::ExecutableRevoked)]
    ExecutableRevoked,
    /// It is held; not for ever.
    #[error("{code}: instance {id} is held until {until}: nothing new is issued for it", code = Reason::InstanceHeld)]
    Held {
        /// The instance.
        id: SpiffeId,
        /// End of the hold.
        until: UnixTime,
    },
    /// The ID would break a rule.
    #[error(transparent)]
    Id(#[from] IdError),
    /// What would be signed breaks a rule.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// No lifetime is left.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// The node's standing is not good.
    #[error("the node is {0}")]
    NodeNotGood(node::Standing),
    /// The instance has ended, or runs elsewhere or under another start token.
    #[error("no such instance runs on this node")]
    NotYours,
    /// More than [`MAX_LIVE_PER_NODE`].
    #[error("the node runs {MAX_LIVE_PER_NODE} instances already")]
    TooManyLive,
    /// More than [`MAX_PROCESS_SELECTORS`].
    #[error("{0} selectors of one process exceed {MAX_PROCESS_SELECTORS}")]
    TooManySelectors(usize),
    /// The node's hardware is not proven and the class demands it.
    #[error(
        "class '{0}' begins only on nodes of proven hardware; `class update --allow-unproven-nodes` is the exception"
    )]
    Unproven(ClassName),
}

/// Decides whether a process begins, and with which SVID. `uuid` is a fresh version 7 UUID.
///
/// # Errors
/// [`InstanceError`] naming the first rule broken. Source: ARCHITECTURE, Identities.
pub fn begin<'a>(facts: BeginFacts<'a>, csr: &Csr, uuid: Uuid, issuance: Issuance) -> Result<Begin<'a>, InstanceError> {
    check_node(facts.node)?;
    // What a start token began is decided before all else: a dead process stays dead whatever the classes are now.
    if let Some(known) = facts.known {
        return again(facts, known, csr, issuance).map(|leaf| Begin::Again { leaf });
    }
    let class = the_one_class(facts)?;
    if facts.bars.closed.contains(&class.name) {
        return Err(InstanceError::ClassClosed(class.name.clone()));
    }
    if facts.bars.executable {
        return Err(InstanceError::ExecutableRevoked);
    }
    if class.node_proof == NodeProof::Hardware && !is_hardware_proven(facts.node) {
        return Err(InstanceError::Unproven(class.name.clone()));
    }
    if facts.live >= MAX_LIVE_PER_NODE {
        return Err(InstanceError::TooManyLive);
    }
    let id = class.name.instance_id(facts.domain, uuid)?;
    let leaf = leaf(id, class.x509_svid_ttl, csr, issuance)?;
    Ok(Begin::New { class, leaf })
}

/// Decides a new SVID of a running instance. `ttl` is the class's, 0 where the class is gone.
///
/// # Errors
/// [`InstanceError`].
pub fn renew(
    node: &Node,
    instance: Option<&Instance>,
    start_token: &[u8; 32],
    ttl: i64,
    csr: &Csr,
    issuance: Issuance,
) -> Result<Leaf, InstanceError> {
    let instance = live(node, instance, start_token, issuance.now)?;
    leaf(instance.id.clone(), ttl, csr, issuance)
}

/// Decides a JWT-SVID of a running instance.
///
/// # Errors
/// [`InstanceError`]. Source: conformance JS-16, JS-18.
pub fn jwt(
    node: &Node,
    instance: Option<&Instance>,
    start_token: &[u8; 32],
    audience: &[String],
    issuance: Issuance,
) -> Result<JwtGrant, InstanceError> {
    let instance = live(node, instance, start_token, issuance.now)?;
    let validity = issuance.profile.clamp(0, issuance.limits, issuance.now)?;
    Ok(JwtGrant::new(instance.id.clone(), audience, issuance.now, validity.not_after, None)?)
}

/// Whether the node's key is proven to sit in hardware: `tpm`, or `pkcs11` at device-cert or above.
///
/// Source: ARCHITECTURE, "A class begins only on proven hardware".
pub fn is_hardware_proven(node: &Node) -> bool {
    let vouched = |value: &str| value == "device-cert" || value.starts_with("attested:");
    match node.attestation_type.as_str() {
        "tpm" => true,
        "pkcs11" => node.selectors.iter().any(|s| s.kind() == "pkcs11" && vouched(s.value())),
        _ => false,
    }
}

fn check_node(node: &Node) -> Result<(), InstanceError> {
    match node.standing {
        node::Standing::Good => Ok(()),
        bad @ (node::Standing::Banned | node::Standing::Failed) => Err(InstanceError::NodeNotGood(bad)),
    }
}

fn again(facts: BeginFacts<'_>, known: &Instance, csr: &Csr, issuance: Issuance) -> Result<Leaf, InstanceError> {
    let known = live(facts.node, Some(known), &known.start_token, issuance.now)?;
    if !facts.same_key {
        return Err(InstanceError::AlreadyBegun(known.id.clone()));
    }
    let ttl = facts.classes.iter().find(|c| c.name == known.class).map_or(0, |c| c.x509_svid_ttl);
    leaf(known.id.clone(), ttl, csr, issuance)
}

fn live<'a>(
    node: &Node,
    instance: Option<&'a Instance>,
    start_token: &[u8; 32],
    now: UnixTime,
) -> Result<&'a Instance, InstanceError> {
    check_node(node)?;
    let Some(instance) = instance else { return Err(InstanceError::NotYours) };
    if instance.node_id != node.id || &instance.start_token != start_token {
        return Err(InstanceError::NotYours);
    }
    match instance.standing {
        Standing::Good => match instance.held(now) {
            None => Ok(instance),
            Some(until) => Err(InstanceError::Held { id: instance.id.clone(), until }),
        },
        standing @ (Standing::Ended | Standing::Revoked) => {
            Err(InstanceError::Dead { id: instance.id.clone(), standing })
        }
    }
}

/// The class the process matches, when it is exactly one and the one asked for.
fn the_one_class<'a>(facts: BeginFacts<'a>) -> Result<&'a Class, InstanceError> {
    if facts.selectors.len() > MAX_PROCESS_SELECTORS {
        return Err(InstanceError::TooManySelectors(facts.selectors.len()));
    }
    let matches = |class: &&&'a Class| {
        class.process_selectors(&facts.node.selectors).is_some_and(|needed| needed.is_subset(facts.selectors))
    };
    let found: Vec<&&'a Class> = facts.classes.iter().filter(matches).collect();
    match found.as_slice() {
        [one] if &one.name == facts.asked => Ok(one),
        [] | [_] => Err(InstanceError::ClassUnknown(facts.asked.clone())),
        many => {
            let names: Vec<&str> = many.iter().map(|c| c.name.as_str()).collect();
            Err(InstanceError::Ambiguous(names.join(", ")))
        }
    }
}

fn leaf(id: SpiffeId, ttl: i64, csr: &Csr, issuance: Issuance) -> Result<Leaf, InstanceError> {
    let validity = issuance.profile.clamp(ttl, issuance.limits, issuance.now)?;
    Ok(Leaf::new(id, csr, validity, issuance.serial)?)
}

#[cfg(test)]
mod tests;
