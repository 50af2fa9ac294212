//! `entry create|update|show|list|delete|count`.

use chancery_proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
        GetEntryRequest, ListEntriesRequest, count_entries_request, list_entries_request,
    },
    types::{self, EntryMask, FederatesWithMatch, SelectorMatch, entry::AdditionalAttributes},
};
use chancery_sdk::id::SpiffeId;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Answer, Client, Failure, json, pretty, value};

/// Entries in one page, as SPIRE's tool asks for.
const PAGE: i32 = 500;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register an entry
    #[command(after_help = "\
Example:
  chancery-ca entry create --parent-id spiffe://example.org/fleet --spiffe-id spiffe://example.org/db \\
      --selector unix:uid:1000 --selector systemd:id:postgresql.service --x509-svid-ttl 1h")]
    Create(CreateArgs),
    /// Change the fields that are named; lists are replaced whole
    #[command(after_help = "Example:\n  chancery-ca entry update 7c0e... --x509-svid-ttl 30m --hint internal")]
    Update(UpdateArgs),
    /// Show one entry
    Show {
        /// Entry ID
        #[arg(value_name = "ENTRY_ID")]
        id: String,
    },
    /// List entries
    #[command(after_help = "Example:\n  chancery-ca entry list --selector unix:uid:1000 --match-selectors-on superset")]
    List(FilterArgs),
    /// Delete an entry
    Delete {
        /// Entry ID
        #[arg(value_name = "ENTRY_ID")]
        id: String,
    },
    /// Count entries
    Count(FilterArgs),
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Entry ID; default: the server chooses
    #[arg(long, value_name = "ID")]
    entry_id: Option<String>,
    /// A node, a node alias, another entry's ID, or spiffe://TD/spire/server (which makes this entry a node alias)
    #[arg(long, value_parser = value::id, value_name = "ID")]
    parent_id: SpiffeId,
    /// The workload's SPIFFE ID
    #[arg(long, value_parser = value::id, value_name = "ID")]
    spiffe_id: SpiffeId,
    /// A fact the workload must show; repeat for more
    #[arg(long = "selector", required = true, value_parser = value::selector, value_name = "TYPE:VALUE")]
    selectors: Vec<types::Selector>,
    #[command(flatten)]
    rest: Optional,
}

#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// Entry ID
    #[arg(value_name = "ENTRY_ID")]
    id: String,
    /// New parent
    #[arg(long, value_parser = value::id, value_name = "ID")]
    parent_id: Option<SpiffeId>,
    /// New SPIFFE ID
    #[arg(long, value_parser = value::id, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// New selectors
    #[arg(long = "selector", value_parser = value::selector, value_name = "TYPE:VALUE")]
    selectors: Vec<types::Selector>,
    #[command(flatten)]
    rest: Optional,
}

/// Fields that may be left out; a flag without value means true.
#[derive(Args, Debug)]
struct Optional {
    /// Lifetime of X509-SVIDs, for example 1h; 0 = the server's default
    #[arg(long, value_parser = value::ttl, value_name = "TIME")]
    x509_svid_ttl: Option<i32>,
    /// Lifetime of JWT-SVIDs, for example 5m; 0 = the server's default
    #[arg(long, value_parser = value::ttl, value_name = "TIME")]
    jwt_svid_ttl: Option<i32>,
    /// DNS name in X509-SVIDs; repeat for more
    #[arg(long = "dns-name", value_name = "NAME")]
    dns_names: Vec<String>,
    /// Trust domain whose bundle goes with the SVID; repeat for more
    #[arg(long = "federates-with", value_parser = value::domain, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// The holder may call the admin RPCs
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    admin: Option<bool>,
    /// The holder may obtain a downstream CA
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    downstream: Option<bool>,
    /// For the workload, up to 1024 bytes
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// When the entry is deleted: RFC 3339 or seconds since 1970; 0 = never
    #[arg(long, value_parser = value::moment, value_name = "TIME")]
    expires_at: Option<i64>,
    /// For SVID stores (SPIRE)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    store_svid: Option<bool>,
    /// Issue X.509 only when a workload asks
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    disable_x509_svid_prefetch: Option<bool>,
    /// Give JWT-SVIDs a jti
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    jwt_svid_include_jti: Option<bool>,
}

#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Exactly this parent
    #[arg(long, value_parser = value::id, value_name = "ID")]
    parent_id: Option<SpiffeId>,
    /// Exactly this SPIFFE ID
    #[arg(long, value_parser = value::id, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Compared with the entry's selectors; repeat for more
    #[arg(long = "selector", value_parser = value::selector, value_name = "TYPE:VALUE")]
    selectors: Vec<types::Selector>,
    /// How the entry's selectors compare with those given
    #[arg(long, value_enum, default_value_t = How::Superset)]
    match_selectors_on: How,
    /// Compared with the entry's federated trust domains; repeat for more
    #[arg(long = "federates-with", value_parser = value::domain, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// How the entry's federated trust domains compare with those given
    #[arg(long, value_enum, default_value_t = How::Superset)]
    match_federates_with_on: How,
    /// Exactly this hint
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// Only entries with the downstream right
    #[arg(long)]
    downstream: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Any,
    Exact,
    Subset,
    Superset,
}

pub async fn run(client: &Client, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Create(args) => create(client, args).await,
        Command::Update(args) => update(client, args).await,
        Command::Show { id } => show(client, id).await,
        Command::List(args) => list(client, args).await,
        Command::Delete { id } => delete(client, id).await,
        Command::Count(args) => count(client, args).await,
    }
}

async fn create(client: &Client, args: CreateArgs) -> Result<Answer, Failure> {
    let mut entry = types::Entry {
        id: args.entry_id.unwrap_or_default(),
        parent_id: Some(value::parts(&args.parent_id)),
        spiffe_id: Some(value::parts(&args.spiffe_id)),
        selectors: args.selectors,
        ..types::Entry::default()
    };
    lay(&mut entry, args.rest);
    warn_of_weak_selectors(&entry);
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let result = client.entry().batch_create_entry(request).await?.into_inner().results.pop();
    let result = result.ok_or_else(no_result)?;
    Ok(changed(result.status, result.entry))
}

async fn update(client: &Client, args: UpdateArgs) -> Result<Answer, Failure> {
    let mask = mask(&args);
    if mask == EntryMask::default() {
        return Err(Failure::usage("nothing to change: name at least one field"));
    }
    let current = get(client, &args.id).await?;
    let mut entry = types::Entry { additional_attributes: current.additional_attributes, ..types::Entry::default() };
    entry.id = args.id;
    entry.parent_id = args.parent_id.as_ref().map(value::parts);
    entry.spiffe_id = args.spiffe_id.as_ref().map(value::parts);
    // The rule for store_svid looks at the selectors the request carries.
    entry.selectors = if args.selectors.is_empty() { current.selectors } else { args.selectors };
    lay(&mut entry, args.rest);
    let request = BatchUpdateEntryRequest { entries: vec![entry], input_mask: Some(mask), output_mask: None };
    let result = client.entry().batch_update_entry(request).await?.into_inner().results.pop();
    let result = result.ok_or_else(no_result)?;
    Ok(changed(result.status, result.entry))
}

/// Both batches answer with a status and an entry; SPIRE's two shapes of ALREADY_EXISTS too.
fn changed(status: Option<types::Status>, entry: Option<types::Entry>) -> Answer {
    let text = entry.as_ref().map(pretty::entry).unwrap_or_default();
    let shown = entry.as_ref().map_or(Value::Null, json::entry);
    let refused = value::accepted(status.clone()).err();
    let json = json::results(vec![(status, "entry", shown)]);
    match refused {
        None => Answer::new(json, text),
        Some(why) => Answer::refused(json, text, why),
    }
}

async fn get(client: &Client, id: &str) -> Result<types::Entry, Failure> {
    let request = GetEntryRequest { id: id.into(), output_mask: None };
    Ok(client.entry().get_entry(request).await?.into_inner())
}

async fn show(client: &Client, id: String) -> Result<Answer, Failure> {
    let entry = get(client, &id).await?;
    // SPIRE's tool wraps the one entry in a list.
    Ok(Answer::new(json::entries(std::slice::from_ref(&entry)), pretty::entry(&entry)))
}

async fn list(client: &Client, args: FilterArgs) -> Result<Answer, Failure> {
    let filter = args.into_filter();
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListEntriesRequest { filter: Some(filter.clone()), output_mask: None, page_size: PAGE, page_token };
        let page = client.entry().list_entries(request).await?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    Ok(Answer::new(json::entries(&entries), pretty::listed(&entries, "entries", pretty::entry)))
}

async fn delete(client: &Client, id: String) -> Result<Answer, Failure> {
    let request = BatchDeleteEntryRequest { ids: vec![id] };
    let result = client.entry().batch_delete_entry(request).await?.into_inner().results.pop();
    let result = result.ok_or_else(no_result)?;
    let refused = value::accepted(result.status.clone()).err();
    let text = format!("Deleted entry with ID: {}", result.id);
    let json = json::results(vec![(result.status, "id", Value::String(result.id))]);
    Ok(match refused {
        None => Answer::new(json, text),
        Some(why) => Answer::refused(json, "", why),
    })
}

async fn count(client: &Client, args: FilterArgs) -> Result<Answer, Failure> {
    let filter = args.into_filter();
    let filter = count_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
    };
    let request = CountEntriesRequest { filter: Some(filter) };
    let count = client.entry().count_entries(request).await?.into_inner().count;
    Ok(Answer::new(json!({ "count": count }), format!("{count} registration entries")))
}

fn no_result() -> Failure {
    Failure::refused("the CA's answer has no result".into())
}

/// Lays the named fields over an entry.
fn lay(entry: &mut types::Entry, rest: Optional) {
    let mut attributes = entry.additional_attributes.unwrap_or_default();
    let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = &mut attributes;
    *disable_x509_svid_prefetch = rest.disable_x509_svid_prefetch.unwrap_or(*disable_x509_svid_prefetch);
    *jwt_svid_include_jti = rest.jwt_svid_include_jti.unwrap_or(*jwt_svid_include_jti);
    entry.additional_attributes = Some(attributes);
    entry.x509_svid_ttl = rest.x509_svid_ttl.unwrap_or_default();
    entry.jwt_svid_ttl = rest.jwt_svid_ttl.unwrap_or_default();
    entry.dns_names = rest.dns_names;
    entry.federates_with = rest.federates_with;
    entry.admin = rest.admin.unwrap_or_default();
    entry.downstream = rest.downstream.unwrap_or_default();
    entry.hint = rest.hint.unwrap_or_default();
    entry.expires_at = rest.expires_at.unwrap_or_default();
    entry.store_svid = rest.store_svid.unwrap_or_default();
}

/// The fields that an update names.
fn mask(args: &UpdateArgs) -> EntryMask {
    let rest = &args.rest;
    EntryMask {
        spiffe_id: args.spiffe_id.is_some(),
        parent_id: args.parent_id.is_some(),
        selectors: !args.selectors.is_empty(),
        x509_svid_ttl: rest.x509_svid_ttl.is_some(),
        federates_with: !rest.federates_with.is_empty(),
        admin: rest.admin.is_some(),
        downstream: rest.downstream.is_some(),
        expires_at: rest.expires_at.is_some(),
        dns_names: !rest.dns_names.is_empty(),
        revision_number: false,
        store_svid: rest.store_svid.is_some(),
        jwt_svid_ttl: rest.jwt_svid_ttl.is_some(),
        hint: rest.hint.is_some(),
        created_at: false,
        additional_attributes: rest.disable_x509_svid_prefetch.is_some() || rest.jwt_svid_include_jti.is_some(),
    }
}

/// Says on stderr what the server only logs: nothing on the wire has room for it.
fn warn_of_weak_selectors(entry: &types::Entry) {
    let read = |s: &types::Selector| chancery_core::selector::Selector::new(&s.r#type, &s.value).ok();
    let selectors = entry.selectors.iter().filter_map(read).collect();
    if chancery_core::selector::only_executable(&selectors) {
        eprintln!(
            "Warning: unix:path and unix:sha256 describe who connects, not who shares its socket: add a uid, unit or container selector"
        );
    }
}

impl FilterArgs {
    fn into_filter(self) -> list_entries_request::Filter {
        let by_selectors = (!self.selectors.is_empty())
            .then(|| SelectorMatch { selectors: self.selectors, r#match: self.match_selectors_on.number() });
        let by_federates_with = (!self.federates_with.is_empty()).then(|| FederatesWithMatch {
            trust_domains: self.federates_with,
            r#match: self.match_federates_with_on.number(),
        });
        list_entries_request::Filter {
            by_spiffe_id: self.spiffe_id.as_ref().map(value::parts),
            by_parent_id: self.parent_id.as_ref().map(value::parts),
            by_selectors,
            by_federates_with,
            by_hint: self.hint,
            by_downstream: self.downstream.then_some(true),
        }
    }
}

impl How {
    /// Both enums on the wire have the same numbers.
    fn number(self) -> i32 {
        match self {
            Self::Any => types::selector_match::MatchBehavior::MatchAny.into(),
            Self::Exact => types::selector_match::MatchBehavior::MatchExact.into(),
            Self::Subset => types::selector_match::MatchBehavior::MatchSubset.into(),
            Self::Superset => types::selector_match::MatchBehavior::MatchSuperset.into(),
        }
    }
}
