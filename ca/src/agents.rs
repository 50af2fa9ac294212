//! Nodes as operators see them, in SPIRE's terms: list, ban, evict, version, join tokens, renewal.

use chancery_core::{
    csr::Csr,
    entry::{Entry, Match, Rights},
    ids, leaf,
    node::{Node, Standing},
    selector::{Selector, Selectors},
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use ring::digest::{SHA256, digest};

use crate::{
    authority::IssuedX509,
    chance,
    config::NodeAttestor,
    issue::SIGN_TRIES,
    lifetimes,
    metrics::Metrics,
    problem::Problem,
    state::State,
    store::{CreateToken, Fact, NodeRef, Outcome, Refusal, RenewNode, SetAgentVersion},
};

/// Longest version text (SPIRE's limit).
const MAX_VERSION_BYTES: usize = 255;
/// Longest join token an operator may choose.
const MAX_TOKEN_BYTES: usize = 255;

/// What a listing asks for; the parts are joined by "and", `None` asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Exactly this type.
    pub attestation_type: Option<String>,
    /// Selectors, not empty.
    pub selectors: Option<(Selectors, Match)>,
    /// Whether it is banned.
    pub banned: Option<bool>,
    /// Whether it renews by attesting again.
    pub can_reattest: Option<bool>,
    /// Its SVID ends before this.
    pub expires_before: Option<UnixTime>,
}

impl Filter {
    fn matches(&self, node: &Node) -> bool {
        let end = node.current.as_ref().map_or(UnixTime(0), |c| c.expires_at);
        self.attestation_type.as_ref().is_none_or(|kind| *kind == node.attestation_type)
            && self.selectors.as_ref().is_none_or(|(set, how)| how.compares(&node.selectors, set))
            && self.banned.is_none_or(|banned| banned == (node.standing == Standing::Banned))
            && self.can_reattest.is_none_or(|can| can == node.can_reattest)
            && self.expires_before.is_none_or(|before| end < before)
    }
}

/// Nodes that match, in the order of the ID.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State, filter: &Filter) -> Result<Vec<Node>, Problem> {
    let mut nodes: Vec<Node> = state.store.nodes().await?.into_iter().filter(|n| filter.matches(n)).collect();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(nodes)
}

/// One node.
///
/// # Errors
/// [`Problem::Invalid`] for an ID of no node, [`Problem::NotFound`].
pub async fn one(state: &State, id: &SpiffeId) -> Result<Node, Problem> {
    check(state, id)?;
    state.store.node(id).await?.ok_or_else(|| Problem::NotFound(format!("no node {id}")))
}

/// Bans a node and closes what it holds open. Only eviction lifts it.
///
/// # Errors
/// As [`one`].
pub async fn ban(state: &State, id: &SpiffeId) -> Result<(), Problem> {
    check(state, id)?;
    end(state, id, Fact::BanNode(NodeRef { id: id.clone() })).await
}

/// Forgets a node and closes what it holds open; it may attest again.
///
/// # Errors
/// As [`one`].
pub async fn evict(state: &State, id: &SpiffeId) -> Result<(), Problem> {
    check(state, id)?;
    end(state, id, Fact::EvictNode(NodeRef { id: id.clone() })).await
}

async fn end(state: &State, id: &SpiffeId, fact: Fact) -> Result<(), Problem> {
    state.commit(fact).await?.done()?;
    let closed = state.live.close_where(|peer| peer.id.as_ref() == Some(id));
    tracing::info!(node = %id, closed, "node lost its standing by an operator's act");
    Ok(())
}

/// Keeps the version an attestor tells; an empty one is nothing to keep.
///
/// # Errors
/// [`Problem::Invalid`] when it is too long, [`Problem::NotFound`].
pub async fn set_version(state: &State, node: &Node, version: String) -> Result<(), Problem> {
    if version.len() > MAX_VERSION_BYTES {
        return Err(Problem::Invalid(format!("agent version of {} bytes exceeds {MAX_VERSION_BYTES}", version.len())));
    }
    if version.is_empty() || version == node.agent_version {
        return Ok(());
    }
    state.commit(Fact::SetAgentVersion(SetAgentVersion { id: node.id.clone(), version })).await?.done()?;
    Ok(())
}

/// A join token as it is shown once.
#[derive(Clone, Debug)]
pub struct Token {
    /// The clear token.
    pub value: String,
    /// Its end.
    pub expires_at: UnixTime,
}

/// Makes a join token; with an agent ID also the entry that gives the node that ID. Only hashes are kept.
///
/// # Errors
/// [`Problem::Precondition`] unless `join_token` is configured, [`Problem::Invalid`], [`Problem::AlreadyExists`].
pub async fn create_token(state: &State, ttl: i64, token: String, agent: Option<SpiffeId>) -> Result<Token, Problem> {
    if !state.config.attests(NodeAttestor::JoinToken) {
        let text = "join tokens are off: add \"join_token\" to node_attestors in the CA's configuration";
        return Err(Problem::Precondition(text.into()));
    }
    if ttl < 1 {
        return Err(Problem::Invalid("ttl is required, you must provide one".into()));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Problem::Invalid(format!("token of {} bytes exceeds {MAX_TOKEN_BYTES}", token.len())));
    }
    if let Some(id) = &agent {
        ids::check_workload(id, &state.trust_domain).map_err(|e| Problem::Invalid(e.to_string()))?;
    }
    let value = if token.is_empty() { chance::uuid_v4()?.to_string() } else { token };
    let (hash_hex, now) = (token_hash(&value), state.now());
    let alias = agent.map(|id| alias(state, &hash_hex, id, now)).transpose()?;
    let expires_at = now.plus(ttl);
    state.commit(Fact::CreateToken(CreateToken { hash_hex, expires_at, alias })).await?.done()?;
    Ok(Token { value, expires_at })
}

/// What of a token is stored, shown and part of IDs: lower-case hex SHA-256.
pub fn token_hash(token: &str) -> String {
    hex::encode(digest(&SHA256, token.as_bytes()))
}

/// ID of the node that joins with the token of this hash.
///
/// # Errors
/// [`Problem::Internal`] where the domain leaves no room.
pub fn token_node(state: &State, hash_hex: &str) -> Result<SpiffeId, Problem> {
    SpiffeId::from_segments(&state.trust_domain, &["spire", "agent", "join_token", hash_hex])
        .map_err(|e| Problem::Internal(e.to_string()))
}

fn alias(state: &State, hash_hex: &str, id: SpiffeId, now: UnixTime) -> Result<Entry, Problem> {
    let parent = token_node(state, hash_hex)?;
    let selector = Selector::new("spiffe_id", parent.as_str()).map_err(|e| Problem::Internal(e.to_string()))?;
    Ok(Entry {
        id: chance::uuid_v7()?.to_string(),
        spiffe_id: id,
        parent_id: parent,
        selectors: Selectors::from([selector]),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights: Rights::default(),
        expires_at: None,
        dns_names: Vec::new(),
        hint: String::new(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision: 0,
        created_at: now,
    })
}

/// Why a node got no new SVID without new proof.
#[derive(Debug)]
pub enum RenewError {
    /// It can attest again, so it must.
    MustReattest,
    /// Anything else.
    Problem(Problem),
}

impl<E: Into<Problem>> From<E> for RenewError {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

/// A new SVID for a node that cannot attest again; stored as fresh, current once it is used.
///
/// # Errors
/// [`RenewError`]; nothing was released. Source: spire-wire 1.1 (RenewAgent).
pub async fn renew(state: &State, node: &Node, csr_der: &[u8]) -> Result<IssuedX509, RenewError> {
    if node.can_reattest {
        return Err(RenewError::MustReattest);
    }
    let csr = Csr::parse(csr_der)?;
    let current = lifetimes::node_cert(node)?;
    let profile = lifetimes::node(&state.config.ttl)?;
    for _ in 0..SIGN_TRIES {
        let limits = lifetimes::x509_limits(state, None)?;
        let validity = profile.clamp(0, limits, state.now())?;
        let leaf = leaf::for_node(&node.id, csr.spki_der(), validity, chance::serial()?)?;
        let issued = state.authority.sign_x509(&leaf)?;
        let fact = RenewNode {
            id: node.id.clone(),
            current_serial: current.serial.clone(),
            fresh: issued.cert.clone(),
            authority: issued.authority_id.clone(),
        };
        match state.commit(Fact::RenewNode(fact)).await? {
            Outcome::Refused(Refusal::AuthorityNotActive) => {}
            Outcome::Refused(refusal) => return Err(refusal.into()),
            Outcome::Done { .. } => {
                Metrics::count(&state.metrics.svids, "kind", "node");
                return Ok(issued);
            }
        }
    }
    Err(RenewError::Problem(Problem::Unavailable("the authority rotates; try again".into())))
}

fn check(state: &State, id: &SpiffeId) -> Result<(), Problem> {
    ids::check_node(id, &state.trust_domain).map_err(|e| Problem::Invalid(e.to_string()))
}
