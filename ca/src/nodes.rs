//! Nodes and devices: what operators ask and say about them. Banning and evicting are SPIRE's Agent service.

use std::collections::HashMap;

use chancery_core::{ids, instance::Standing, node::Node};
use chancery_sdk::id::SpiffeId;

use crate::{
    enroll::pkcs11,
    problem::Problem,
    state::State,
    store::{EnrolEk, EnrolKey, Fact, InstanceFilter, Refusal},
};

/// Longest note in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// A node and how many instances run on it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The node.
    pub node: Node,
    /// Running instances.
    pub live: usize,
}

/// Every node, in the order of the ID.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State) -> Result<Vec<Seen>, Problem> {
    let running = InstanceFilter { standing: Some(Standing::Good), ..InstanceFilter::default() };
    let mut live: HashMap<SpiffeId, usize> = HashMap::new();
    for instance in state.store.instances(&running).await? {
        *live.entry(instance.node_id).or_default() += 1;
    }
    let seen = |node: Node| Seen { live: live.get(&node.id).copied().unwrap_or(0), node };
    Ok(state.store.nodes().await?.into_iter().map(seen).collect())
}

/// The node `id`.
///
/// # Errors
/// [`Problem::Invalid`] where the ID is of no node, [`Problem::NotFound`].
pub async fn get(state: &State, id: &SpiffeId) -> Result<Seen, Problem> {
    ids::check_node(id, &state.trust_domain).map_err(|e| Problem::Invalid(e.to_string()))?;
    let node = state.store.node(id).await?.ok_or_else(|| Problem::NotFound(format!("no node {id}")))?;
    Ok(Seen { live: state.store.live_instances(id).await?.len(), node })
}

/// Takes an operator's word that the device with this EK is ours; saying it twice is no error. Answers the node's ID to be.
///
/// # Errors
/// [`Problem::Invalid`] where the note is too long.
pub async fn enrol(state: &State, ek_hash: [u8; 32], note: String) -> Result<SpiffeId, Problem> {
    check_note(&note)?;
    let path = format!("/spire/agent/tpm/{}", hex::encode(ek_hash));
    let id = SpiffeId::from_path(&state.trust_domain, &path).map_err(|e| Problem::Invalid(e.to_string()))?;
    match state.commit(Fact::EnrolEk(EnrolEk { ek_hash, note })).await?.done() {
        Ok(_) | Err(Refusal::AlreadyExists(_)) => Ok(id),
        Err(refusal) => Err(refusal.into()),
    }
}

/// As [`enrol`], for the attestation key of a token.
///
/// # Errors
/// As [`enrol`].
pub async fn enrol_key(state: &State, key_sha256: [u8; 32], note: String) -> Result<SpiffeId, Problem> {
    check_note(&note)?;
    let id = pkcs11::node_id(state, &key_sha256)?;
    match state.commit(Fact::EnrolKey(EnrolKey { key_sha256, note })).await?.done() {
        Ok(_) | Err(Refusal::AlreadyExists(_)) => Ok(id),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Bounds an operator's words.
///
/// # Errors
/// [`Problem::Invalid`].
pub fn check_note(note: &str) -> Result<(), Problem> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(Problem::Invalid(format!("note of {} bytes exceeds {MAX_NOTE_BYTES} bytes", note.len())));
    }
    Ok(())
}
