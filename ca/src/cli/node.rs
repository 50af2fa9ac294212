//! `node`, `anchor`, `policy`, `token` and `healthcheck`.

use std::path::PathBuf;

use chancery_proto::{
    chancery::admin::v1::{EnrolNodeRequest, ImportAnchorsRequest, LearnPolicyRequest, NodeId},
    spire::api::server::agent::v1::{BanAgentRequest, CreateJoinTokenRequest, DeleteAgentRequest},
};
use chancery_sdk::id::SpiffeId;
use clap::Subcommand;
use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{Answer, Client, Failure, files, json, pretty, value};

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Say that the device with this endorsement key is ours
    #[command(after_help = "\
Examples:
  chancery-ca node enrol --ek 3f6c...e1          (what `chancery-attestor ek` prints)
  chancery-ca node enrol --ek ek-certificate.pem --note \"rack 7, slot 3\"")]
    Enrol {
        /// SHA-256 of the EK's SubjectPublicKeyInfo in hex, or a file with the EK certificate (PEM or DER)
        #[arg(long, value_name = "FILE|HASH", required_unless_present = "key")]
        ek: Option<String>,
        /// SHA-256 of a token's attestation key (SubjectPublicKeyInfo) in hex, or a file with the key or its certificate (PEM or DER)
        #[arg(long, value_name = "FILE|HASH", conflicts_with = "ek")]
        key: Option<String>,
        /// For people
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
    },
    /// List the nodes
    List,
    /// Show one node
    Show {
        /// SPIFFE ID of the node
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
    /// Ban a node: nothing is issued to it until it is evicted
    Ban {
        /// SPIFFE ID of the node
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
    /// Forget a node; it may attest again
    Evict {
        /// SPIFFE ID of the node
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
}

#[derive(Debug, Subcommand)]
pub enum AnchorCommand {
    /// Believe that these CAs make genuine devices
    #[command(after_help = "Example:\n  chancery-ca anchor import infineon.pem --manufacturer id:49465800")]
    Import {
        /// One or more CA certificates, PEM
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The one manufacturer they vouch for, as its EK certificates name it, for example id:49465800
        #[arg(long, value_name = "ID")]
        manufacturer: String,
        /// For people
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
    },
    /// List the anchors
    List,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Hold a node's last accepted evidence against the policy in force
    Explain {
        /// SPIFFE ID of the node
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
    /// Write a policy, as TOML, that a node's last accepted evidence meets
    #[command(
        after_help = "Example:\n  chancery-ca policy learn spiffe://example.org/spire/agent/tpm/3f6c... --name prod >> policy.toml"
    )]
    Learn {
        /// SPIFFE ID of the node
        #[arg(value_parser = value::id)]
        id: SpiffeId,
        /// Name of the policy; becomes the selector tpm:policy:NAME
        #[arg(long, default_value = "learned", value_name = "NAME")]
        name: String,
    },
    /// Read anchors and policies again; what is wrong is told and the old ones stay
    Reload,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token; it is shown once and kept only as a hash
    #[command(after_help = "Example:\n  chancery-ca token generate --spiffe-id spiffe://example.org/ci --ttl 10m")]
    Generate {
        /// Further ID of the node that joins with it
        #[arg(long, value_parser = value::id, value_name = "ID")]
        spiffe_id: Option<SpiffeId>,
        /// Time until it ends
        #[arg(long, value_parser = value::ttl, default_value = "10m", value_name = "TIME")]
        ttl: i32,
    },
}

pub async fn node(client: &Client, command: NodeCommand) -> Result<Answer, Failure> {
    match command {
        NodeCommand::Enrol { ek, key, note } => {
            let hash = |named: Option<String>, option| named.map_or(Ok(String::new()), |n| files::key_hash(&n, option));
            let request = EnrolNodeRequest { ek_hash: hash(ek, "--ek")?, key_hash: hash(key, "--key")?, note };
            let node_id = client.admin().enrol_node(request).await?.into_inner().node_id;
            Ok(Answer::new(json!({ "node_id": node_id }), format!("Enrolled: {node_id}")))
        }
        NodeCommand::List => {
            let nodes = client.admin().list_nodes(()).await?.into_inner().nodes;
            let json = json!({ "nodes": nodes.iter().map(json::node).collect::<Vec<_>>() });
            Ok(Answer::new(json, pretty::listed(&nodes, "nodes", pretty::node)))
        }
        NodeCommand::Show { id } => {
            let node = client.admin().get_node(NodeId { id: id.to_string() }).await?.into_inner();
            Ok(Answer::new(json::node(&node), pretty::node(&node)))
        }
        NodeCommand::Ban { id } => {
            client.agent().ban_agent(BanAgentRequest { id: Some(value::parts(&id)) }).await?;
            Ok(Answer::new(json!({}), format!("Banned: {id}; `node evict` lifts it")))
        }
        NodeCommand::Evict { id } => {
            client.agent().delete_agent(DeleteAgentRequest { id: Some(value::parts(&id)) }).await?;
            Ok(Answer::new(json!({}), format!("Evicted: {id}; it may attest again")))
        }
    }
}

pub async fn anchor(client: &Client, command: AnchorCommand) -> Result<Answer, Failure> {
    let anchors = match command {
        AnchorCommand::Import { file, manufacturer, note } => {
            let request = ImportAnchorsRequest { pem: files::text(&file)?, manufacturer, note };
            client.admin().import_anchors(request).await?.into_inner().anchors
        }
        AnchorCommand::List => client.admin().list_anchors(()).await?.into_inner().anchors,
    };
    Ok(Answer::new(json::anchors(&anchors), pretty::listed(&anchors, "anchors", pretty::anchor)))
}

pub async fn policy(client: &Client, command: PolicyCommand) -> Result<Answer, Failure> {
    match command {
        PolicyCommand::Explain { id } => {
            let told = client.admin().explain_policy(NodeId { id: id.to_string() }).await?.into_inner();
            Ok(Answer::new(json::explained(&told), pretty::explained(&told)))
        }
        PolicyCommand::Learn { id, name } => {
            let request = LearnPolicyRequest { node_id: id.to_string(), name };
            let toml = client.admin().learn_policy(request).await?.into_inner().toml;
            Ok(Answer::new(json!({ "toml": toml }), toml))
        }
        PolicyCommand::Reload => {
            let loaded = client.admin().reload(()).await?.into_inner();
            let text = format!("Loaded {} anchors and {} policies", loaded.anchors, loaded.policies);
            Ok(Answer::new(json!({ "anchors": loaded.anchors, "policies": loaded.policies }), text))
        }
    }
}

pub async fn token(client: &Client, command: TokenCommand) -> Result<Answer, Failure> {
    let TokenCommand::Generate { spiffe_id, ttl } = command;
    let agent_id = spiffe_id.as_ref().map(value::parts);
    let request = CreateJoinTokenRequest { ttl, token: String::new(), agent_id };
    let token = client.agent().create_join_token(request).await?.into_inner();
    Ok(Answer::new(json::join_token(&token), format!("Token: {}", token.value)))
}

pub async fn healthcheck(client: &Client) -> Result<Answer, Failure> {
    let status = client.health().check(HealthCheckRequest { service: String::new() }).await?.into_inner().status;
    // A database that is away hides this, and the log says so.
    let needs = client.admin().list_authorities(()).await.map(|all| all.into_inner().needs).unwrap_or_default();
    match (ServingStatus::try_from(status), needs.as_str()) {
        (Ok(ServingStatus::Serving), "") => Ok(Answer::new(json!({ "status": "SERVING" }), "CA is healthy.")),
        (Ok(ServingStatus::Serving), needs) => {
            let pretty = format!("CA is healthy.\nSoon not: {needs}");
            Ok(Answer::new(json!({ "needs": needs, "status": "SERVING" }), pretty))
        }
        (_, "") => Err(Failure::refused("the CA runs and does not serve; its log says why".into())),
        (_, needs) => Err(Failure::refused(format!("the CA runs and does not serve: {needs}"))),
    }
}
