//! `class`, `instance` and `audit`.

use std::path::PathBuf;

use chancery_proto::{
    chancery::admin::v1::{Class, ClassName, EndInstanceRequest, InstanceId, ListEventsRequest, ListInstancesRequest},
    spire::api::types,
};
use chancery_sdk::id::SpiffeId;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Answer, Client, Failure, evidence::EvidenceArgs, json, pretty, revoke, value, write};

/// Instances in one page.
const PAGE: i32 = 500;

#[derive(Debug, Subcommand)]
pub enum ClassCommand {
    /// Make a class: each process that matches becomes an instance of its own
    #[command(after_help = "\
Example:
  chancery-ca class create --parent-id spiffe://example.org/fleet --name finance/refund-agent \\
      --selector unix:uid:1000 --x509-svid-ttl 15m")]
    Create {
        /// 1 to 4 segments, none with the form of a UUID
        #[arg(long, value_name = "NAME")]
        name: String,
        /// A node or a node alias
        #[arg(long, value_parser = value::id, value_name = "ID")]
        parent_id: SpiffeId,
        /// A fact the process must show; repeat for more
        #[arg(long = "selector", required = true, value_parser = value::selector, value_name = "TYPE:VALUE")]
        selectors: Vec<types::Selector>,
        /// Lifetime of the instances' SVIDs, for example 15m; 0 = the server's default
        #[arg(long, value_parser = value::ttl, default_value = "0", value_name = "TIME")]
        x509_svid_ttl: i32,
        /// Also on nodes whose hardware is not proven; shown in `class show` and in every event
        #[arg(long)]
        allow_unproven_nodes: bool,
    },
    /// Change what is named; the selectors are replaced whole
    #[command(after_help = "Example:\n  chancery-ca class update finance/refund-agent --x509-svid-ttl 10m")]
    Update {
        /// Class name
        name: String,
        /// New parent
        #[arg(long, value_parser = value::id, value_name = "ID")]
        parent_id: Option<SpiffeId>,
        /// New selectors
        #[arg(long = "selector", value_parser = value::selector, value_name = "TYPE:VALUE")]
        selectors: Vec<types::Selector>,
        /// New lifetime
        #[arg(long, value_parser = value::ttl, value_name = "TIME")]
        x509_svid_ttl: Option<i32>,
        /// Whether it may begin on nodes whose hardware is not proven
        #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
        allow_unproven_nodes: Option<bool>,
    },
    /// List the classes
    List,
    /// Show one class
    Show {
        /// Class name
        name: String,
    },
    /// Let a class begin again where a revocation closed it
    #[command(after_help = "\
Examples:
  chancery-ca class reopen spiffe://example.org/spire/agent/tpm/3f6c... finance/refund-agent --reason 'machine was rebuilt'
  chancery-ca class reopen '*' finance/refund-agent --reason 'fixed build is out'")]
    Reopen {
        /// SPIFFE ID of the node, or '*' where the class itself was revoked
        #[arg(value_name = "NODE")]
        node: String,
        /// Class name
        #[arg(value_name = "CLASS")]
        name: String,
        /// Why; stands in the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Delete a class and end its instances
    Delete {
        /// Class name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// List instances
    #[command(after_help = "Example:\n  chancery-ca instance list --standing good --output json")]
    List {
        /// Of this class
        #[arg(long, value_name = "NAME")]
        class: Option<String>,
        /// On this node
        #[arg(long, value_parser = value::id, value_name = "ID")]
        node_id: Option<SpiffeId>,
        /// In this standing
        #[arg(long, value_enum)]
        standing: Option<StandingWord>,
    },
    /// Show one instance
    Show {
        /// SPIFFE ID of the instance
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
    /// End an instance; its ID is dead for ever
    End {
        /// SPIFFE ID of the instance
        #[arg(value_parser = value::id)]
        id: SpiffeId,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StandingWord {
    Ended,
    Good,
    Revoked,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print or write out what a node said when it proved itself, judged by the digest in the record; needs --config
    Evidence(EvidenceArgs),
    /// Print the public key that this server signs the record with, as verifiers are told it; needs --config
    Key,
    /// Compare database, tiles and checkpoints, without a running CA; needs --config
    #[command(
        after_help = "Example:\n  chancery-ca audit verify --config /etc/chancery/ca.toml --since /media/usb/checkpoint"
    )]
    Verify {
        /// A checkpoint that was kept elsewhere; without it, it cannot be seen whether the newest events were dropped
        #[arg(long, value_name = "CHECKPOINT_FILE")]
        since: Option<PathBuf>,
    },
    /// Print the record, one event in JSON on each line
    #[command(after_help = "Example:\n  chancery-ca audit list --after 1200 --follow")]
    List {
        /// Only events with a number above this
        #[arg(long, value_name = "N")]
        after: Option<i64>,
        /// Go on with events as they happen
        #[arg(long)]
        follow: bool,
    },
}

pub async fn class(client: &Client, command: ClassCommand) -> Result<Answer, Failure> {
    let mut admin = client.admin();
    let class = match command {
        ClassCommand::Create { name, parent_id, selectors, x509_svid_ttl, allow_unproven_nodes } => {
            let parent_id = parent_id.to_string();
            let class = Class { name, parent_id, selectors, x509_svid_ttl, allow_unproven_nodes, ..Class::default() };
            admin.create_class(class).await?.into_inner()
        }
        ClassCommand::Update { name, parent_id, selectors, x509_svid_ttl, allow_unproven_nodes } => {
            if parent_id.is_none() && selectors.is_empty() && x509_svid_ttl.is_none() && allow_unproven_nodes.is_none()
            {
                return Err(Failure::usage("nothing to change: name at least one field"));
            }
            let mut class = admin.get_class(ClassName { name }).await?.into_inner();
            class.parent_id = parent_id.map_or(class.parent_id, |id| id.to_string());
            class.selectors = if selectors.is_empty() { class.selectors } else { selectors };
            class.x509_svid_ttl = x509_svid_ttl.unwrap_or(class.x509_svid_ttl);
            class.allow_unproven_nodes = allow_unproven_nodes.unwrap_or(class.allow_unproven_nodes);
            admin.update_class(class).await?.into_inner()
        }
        ClassCommand::List => {
            let classes = admin.list_classes(()).await?.into_inner().classes;
            let json = json!({ "classes": classes.iter().map(json::class).collect::<Vec<_>>() });
            return Ok(Answer::new(json, pretty::listed(&classes, "classes", pretty::class)));
        }
        ClassCommand::Reopen { node, name, reason } => return revoke::reopen(client, node, name, reason).await,
        ClassCommand::Show { name } => admin.get_class(ClassName { name }).await?.into_inner(),
        ClassCommand::Delete { name } => {
            admin.delete_class(ClassName { name: name.clone() }).await?;
            return Ok(Answer::new(json!({}), format!("Deleted class: {name}")));
        }
    };
    Ok(Answer::new(json::class(&class), pretty::class(&class)))
}

pub async fn instance(client: &Client, command: InstanceCommand) -> Result<Answer, Failure> {
    let mut admin = client.admin();
    let one = match command {
        InstanceCommand::List { class, node_id, standing } => {
            let found = instances(client, class, node_id, standing).await?;
            return Ok(Answer::new(json::instances(&found), pretty::listed(&found, "instances", pretty::instance)));
        }
        InstanceCommand::Show { id } => admin.get_instance(InstanceId { id: id.to_string() }).await?.into_inner(),
        InstanceCommand::End { id } => {
            let request = EndInstanceRequest { id: id.to_string(), reason: "operator".into() };
            admin.end_instance(request).await?.into_inner()
        }
    };
    Ok(Answer::new(json::instances(std::slice::from_ref(&one)), pretty::instance(&one)))
}

async fn instances(
    client: &Client,
    class: Option<String>,
    node_id: Option<SpiffeId>,
    standing: Option<StandingWord>,
) -> Result<Vec<chancery_proto::chancery::admin::v1::Instance>, Failure> {
    let standing = standing.map(|word| match word {
        StandingWord::Ended => "ended",
        StandingWord::Good => "good",
        StandingWord::Revoked => "revoked",
    });
    let mut request = ListInstancesRequest {
        class_name: class.unwrap_or_default(),
        node_id: node_id.map(|id| id.to_string()).unwrap_or_default(),
        standing: standing.unwrap_or_default().into(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut found = Vec::new();
    loop {
        let page = client.admin().list_instances(request.clone()).await?.into_inner();
        found.extend(page.instances);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

pub async fn audit(client: &Client, command: AuditCommand) -> Result<(), Failure> {
    let AuditCommand::List { after, follow } = command else {
        return Err(Failure::refused("not a command of the admin socket".into()));
    };
    let mut events = client.admin().list_events(ListEventsRequest { after, follow }).await?.into_inner();
    while let Some(event) = events.message().await? {
        // The exact bytes of the record: they are what is hashed.
        let mut line = event.json;
        line.push(b'\n');
        write(&line)?;
    }
    Ok(())
}
