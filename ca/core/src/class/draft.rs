//! Validation of agent classes.

use std::collections::BTreeSet;

use chancery_sdk::{
    id::{IdError, SpiffeId, TrustDomain},
    time::UnixTime,
};
use thiserror::Error;
use uuid::Uuid;

use super::{Class, ClassName, ClassNameError, NodeProof};
use crate::{
    entry::MAX_SELECTORS,
    ids,
    lifetime::{LifetimeError, Profile},
    selector::{Selectors, only_executable},
};

/// A class as asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft {
    /// `segment[/segment...]`.
    pub name: String,
    /// A node or a node alias.
    pub parent_id: SpiffeId,
    /// May be empty.
    pub selectors: Selectors,
    /// Seconds; 0 = default.
    pub x509_svid_ttl: i64,
    /// On which nodes it may begin.
    pub node_proof: NodeProof,
}

/// Why a class is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[allow(missing_docs)] // the messages say it
pub enum ClassError {
    #[error("instance IDs of this class would break a rule: {0}")]
    InstanceId(#[source] IdError),
    #[error(transparent)]
    Name(#[from] ClassNameError),
    #[error(
        "only unix:path or unix:sha256 describe who connected, not who shares its socket: add a uid, unit or container selector"
    )]
    OnlyExecutable,
    #[error(
        "parent {0} is neither a node nor a node alias: name a node, or an entry that has the parent spiffe://<trust domain>/spire/server"
    )]
    Parent(SpiffeId),
    #[error("a class needs at least one selector")]
    SelectorsMissing,
    #[error("{0} selectors exceed {MAX_SELECTORS}")]
    TooManySelectors(usize),
    #[error("x509_svid_ttl: {0}")]
    Ttl(#[source] LifetimeError),
}

/// Makes a class of a draft; `aliases` are the IDs that node aliases give.
///
/// # Errors
/// [`ClassError`] naming the first rule broken. Source: ARCHITECTURE, Identities and "What kernel facts prove"; ID-24.
pub fn check(
    draft: Draft,
    domain: &TrustDomain,
    aliases: &BTreeSet<&SpiffeId>,
    profile: Profile,
    now: UnixTime,
) -> Result<Class, ClassError> {
    let name = ClassName::new(&draft.name)?;
    name.instance_id(domain, Uuid::nil()).map_err(ClassError::InstanceId)?;
    let is_node = ids::check_node(&draft.parent_id, domain).is_ok();
    if !is_node && !aliases.contains(&draft.parent_id) {
        return Err(ClassError::Parent(draft.parent_id));
    }
    if draft.selectors.is_empty() {
        return Err(ClassError::SelectorsMissing);
    }
    if draft.selectors.len() > MAX_SELECTORS {
        return Err(ClassError::TooManySelectors(draft.selectors.len()));
    }
    if only_executable(&draft.selectors) {
        return Err(ClassError::OnlyExecutable);
    }
    profile.check(draft.x509_svid_ttl).map_err(ClassError::Ttl)?;
    Ok(Class {
        name,
        parent_id: draft.parent_id,
        selectors: draft.selectors,
        x509_svid_ttl: draft.x509_svid_ttl,
        node_proof: draft.node_proof,
        revision: 0,
        created_at: now,
    })
}

impl Class {
    /// What a process on a node must still show: the class's selectors without those the node itself has.
    ///
    /// `None` where the class asks nothing of the process, or a fact of another node; such a class never begins there.
    pub fn process_selectors(&self, node: &Selectors) -> Option<Selectors> {
        let left: Selectors = self.selectors.difference(node).cloned().collect();
        let of_nodes = |kind: &str| matches!(kind, "join_token" | "pkcs11" | "spiffe_id" | "tpm");
        (!left.is_empty() && !left.iter().any(|s| of_nodes(s.kind()))).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::samples::{domain, id, selectors};

    fn draft() -> Draft {
        Draft {
            name: "finance/refund-agent".into(),
            parent_id: id("/fleet"),
            selectors: selectors(&["unix:uid:1000", "unix:path:/bin/agent"]),
            x509_svid_ttl: 0,
            node_proof: NodeProof::Hardware,
        }
    }

    fn outcome(draft: Draft) -> Result<Class, ClassError> {
        let alias = id("/fleet");
        check(draft, &domain(), &BTreeSet::from([&alias]), Profile::new(900, 3600).unwrap(), UnixTime(7))
    }

    #[test]
    fn each_rule_refuses_its_own_fault() {
        let cases: &[(&str, fn(&mut Draft))] = &[
            ("no name", |d| d.name = String::new()),
            ("five segments", |d| d.name = "a/b/c/d/e".into()),
            ("segment of UUID form", |d| d.name = "a/0190f5d2-0000-7000-8000-000000000000".into()),
            ("bad character", |d| d.name = "a b".into()),
            ("dot segment", |d| d.name = "a/..".into()),
            ("parent that is no alias", |d| d.parent_id = id("/web")),
            ("parent of another domain", |d| d.parent_id = SpiffeId::parse("spiffe://x/spire/agent/tpm/a").unwrap()),
            ("parent that is the server", |d| d.parent_id = id("/spire/server")),
            ("no selectors", |d| d.selectors.clear()),
            ("only a path", |d| d.selectors = selectors(&["unix:path:/bin/agent"])),
            ("only path and digest", |d| d.selectors = selectors(&["unix:path:/bin/a", "unix:sha256:00"])),
            ("lifetime beyond the cap", |d| d.x509_svid_ttl = 3601),
            ("65 selectors", |d| d.selectors = (0..65).map(|n| format!("a:{n}").parse().unwrap()).collect()),
        ];
        for (fault, spoil) in cases {
            let mut bad = draft();
            spoil(&mut bad);
            assert!(outcome(bad).is_err(), "{fault}");
        }
        assert_eq!(outcome(draft()).unwrap().name.as_str(), "finance/refund-agent");
    }

    #[test]
    fn parent_may_be_a_node_or_an_alias() {
        assert!(outcome(Draft { parent_id: id("/spire/agent/tpm/aa"), ..draft() }).is_ok());
        assert!(outcome(draft()).is_ok());
    }

    #[test]
    fn id_24_class_whose_instances_would_exceed_2048_bytes_is_refused() {
        let room = chancery_sdk::id::MAX_ID_BYTES - "spiffe://td/agent/".len() - "/".len() - 36;
        assert!(outcome(Draft { name: "a".repeat(room), ..draft() }).is_ok());
        assert!(matches!(outcome(Draft { name: "a".repeat(room + 1), ..draft() }), Err(ClassError::InstanceId(_))));
    }

    #[test]
    fn process_need_not_show_what_its_node_has_shown() {
        let class = outcome(Draft { selectors: selectors(&["tpm:enrolled:no", "unix:uid:1"]), ..draft() }).unwrap();
        let node = selectors(&["tpm:enrolled:no", "tpm:secure_boot:on"]);
        assert_eq!(class.process_selectors(&node), Some(selectors(&["unix:uid:1"])));
        assert_eq!(class.process_selectors(&Selectors::new()), None);
        let node_only = outcome(Draft { selectors: selectors(&["tpm:enrolled:no"]), ..draft() }).unwrap();
        assert_eq!(node_only.process_selectors(&node), None);
    }
}
