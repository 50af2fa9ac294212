//! Method -> who may call it. Rows are sorted by path, so that a double is seen.

use Who::{Anyone, Nodes, Operators, OperatorsAndNodes};

/// Classes of callers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Whoever can connect.
    Anyone,
    /// SVIDs of downstream entries.
    Downstreams,
    /// The admin socket only.
    LocalOperators,
    /// Attested nodes in good standing.
    Nodes,
    /// The admin socket, and SVIDs of admin entries.
    Operators,
    /// Both of those.
    OperatorsAndNodes,
}

/// Every method served. Source: SPIRE's callers per RPC; our own services as their .proto says.
pub const METHODS: &[(&str, Who)] = &[
    ("/chancery.admin.v1.Admin/CreateClass", Operators),
    ("/chancery.admin.v1.Admin/DeleteClass", Operators),
    ("/chancery.admin.v1.Admin/EndInstance", Operators),
    ("/chancery.admin.v1.Admin/EnrolNode", Operators),
    ("/chancery.admin.v1.Admin/ExplainPolicy", Operators),
    ("/chancery.admin.v1.Admin/GetClass", Operators),
    ("/chancery.admin.v1.Admin/GetInstance", Operators),
    ("/chancery.admin.v1.Admin/GetNode", Operators),
    ("/chancery.admin.v1.Admin/ImportAnchors", Operators),
    // Whoever imports names a root that everybody will trust; so only who has the host.
    ("/chancery.admin.v1.Admin/ImportAuthority", Who::LocalOperators),
    ("/chancery.admin.v1.Admin/LearnPolicy", Operators),
    ("/chancery.admin.v1.Admin/ListAnchors", Operators),
    ("/chancery.admin.v1.Admin/ListAuthorities", Operators),
    ("/chancery.admin.v1.Admin/ListClasses", Operators),
    ("/chancery.admin.v1.Admin/ListEvents", Operators),
    ("/chancery.admin.v1.Admin/ListHolds", Operators),
    ("/chancery.admin.v1.Admin/ListInstances", Operators),
    ("/chancery.admin.v1.Admin/ListNodes", Operators),
    ("/chancery.admin.v1.Admin/ListProposals", Operators),
    ("/chancery.admin.v1.Admin/ListRevocations", Operators),
    ("/chancery.admin.v1.Admin/PlaceHold", Operators),
    ("/chancery.admin.v1.Admin/ReleaseHold", Operators),
    ("/chancery.admin.v1.Admin/Reload", Operators),
    ("/chancery.admin.v1.Admin/ReopenClass", Operators),
    ("/chancery.admin.v1.Admin/RequestAuthority", Who::LocalOperators),
    ("/chancery.admin.v1.Admin/ReviewProposal", Operators),
    ("/chancery.admin.v1.Admin/Revoke", Operators),
    ("/chancery.admin.v1.Admin/UpdateClass", Operators),
    ("/chancery.node.v1.Node/Begin", Nodes),
    ("/chancery.node.v1.Node/End", Nodes),
    ("/chancery.node.v1.Node/ListClasses", Nodes),
    ("/chancery.node.v1.Node/NewJwt", Nodes),
    ("/chancery.node.v1.Node/Reconcile", Nodes),
    ("/chancery.node.v1.Node/Renew", Nodes),
    ("/chancery.node.v1.Node/ReportCheckpoint", Nodes),
    ("/chancery.node.v1.Node/Watch", Nodes),
    ("/grpc.health.v1.Health/Check", Who::LocalOperators),
    ("/grpc.health.v1.Health/List", Who::LocalOperators),
    ("/grpc.health.v1.Health/Watch", Who::LocalOperators),
    ("/spire.api.server.agent.v1.Agent/AttestAgent", Anyone),
    ("/spire.api.server.agent.v1.Agent/BanAgent", Operators),
    ("/spire.api.server.agent.v1.Agent/CountAgents", Operators),
    ("/spire.api.server.agent.v1.Agent/CreateJoinToken", Operators),
    ("/spire.api.server.agent.v1.Agent/DeleteAgent", Operators),
    ("/spire.api.server.agent.v1.Agent/GetAgent", Operators),
    ("/spire.api.server.agent.v1.Agent/ListAgents", Operators),
    ("/spire.api.server.agent.v1.Agent/PostStatus", Nodes),
    ("/spire.api.server.agent.v1.Agent/RenewAgent", Nodes),
    ("/spire.api.server.bundle.v1.Bundle/AppendBundle", Operators),
    ("/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", Operators),
    ("/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", Operators),
    ("/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", Operators),
    ("/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", Operators),
    ("/spire.api.server.bundle.v1.Bundle/CountBundles", Operators),
    ("/spire.api.server.bundle.v1.Bundle/GetBundle", Anyone),
    ("/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", OperatorsAndNodes),
    ("/spire.api.server.bundle.v1.Bundle/ListFederatedBundles", Operators),
    ("/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", Who::Downstreams),
    ("/spire.api.server.bundle.v1.Bundle/PublishWITAuthority", Operators),
    ("/spire.api.server.entry.v1.Entry/BatchCreateEntry", Operators),
    ("/spire.api.server.entry.v1.Entry/BatchDeleteEntry", Operators),
    ("/spire.api.server.entry.v1.Entry/BatchUpdateEntry", Operators),
    ("/spire.api.server.entry.v1.Entry/CountEntries", Operators),
    ("/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", Nodes),
    ("/spire.api.server.entry.v1.Entry/GetEntry", Operators),
    ("/spire.api.server.entry.v1.Entry/ListEntries", Operators),
    ("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", Nodes),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority", Operators),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", Operators),
    // WIT-SVIDs are answered by UNIMPLEMENTED, which whoever may ask should see.
    ("/spire.api.server.svid.v1.SVID/BatchNewWITSVID", Nodes),
    ("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", Nodes),
    ("/spire.api.server.svid.v1.SVID/MintJWTSVID", Operators),
    ("/spire.api.server.svid.v1.SVID/MintWITSVID", Operators),
    ("/spire.api.server.svid.v1.SVID/MintX509SVID", Operators),
    ("/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", Who::Downstreams),
    ("/spire.api.server.svid.v1.SVID/NewJWTSVID", Nodes),
];

/// Who may call `method`; `None` is nobody.
pub fn who(method: &str) -> Option<Who> {
    METHODS.binary_search_by(|(path, _)| (*path).cmp(method)).ok().map(|at| METHODS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique() {
        assert!(METHODS.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn a_method_outside_the_table_is_nobodys() {
        assert_eq!(who("/spire.api.server.svid.v1.SVID/NewDownstreamX509CB"), None);
        assert_eq!(who("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), None);
        assert_eq!(who(""), None);
    }

    #[test]
    fn only_attestation_and_the_bundle_are_open_to_anyone() {
        let open: Vec<_> = METHODS.iter().filter(|(_, who)| *who == Who::Anyone).map(|(path, _)| *path).collect();
        assert_eq!(
            open,
            ["/spire.api.server.agent.v1.Agent/AttestAgent", "/spire.api.server.bundle.v1.Bundle/GetBundle"]
        );
    }
}
