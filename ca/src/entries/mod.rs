//! Registration entries: what operators do with them, and which of them a node may serve.

use chancery_core::{
    entry::{self, Draft, Entry, Filter, Mask, check},
    node::Node,
    selector,
};

use crate::{
    chance,
    problem::Problem,
    state::State,
    store::{EntryRef, Fact, Outcome, Refusal},
};

/// How often an update is laid over a newer entry before it gives up.
const UPDATE_TRIES: usize = 4;

/// Entries read at once for a list.
const READ: u32 = 1000;

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Most rows; 0 or less means all in one, whatever the token is.
    pub size: i32,
    /// Key of the last row seen; empty: from the start.
    pub token: String,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is registered.
    New(Entry),
    /// The same ID, parent and selectors were registered before; this is that entry.
    Similar(Entry),
}

/// Registers an entry.
///
/// # Errors
/// [`Problem::Invalid`], [`Problem::AlreadyExists`] where another entry has the ID, [`Problem::Internal`] where a
/// federated bundle is missing. Source: spire-wire 1.3 (BatchCreateEntry), 4.1.
pub async fn create(state: &State, draft: Draft) -> Result<Created, Problem> {
    let id = chance::uuid_v7()?.to_string();
    let entry = check(draft, Mask::ALL, &state.trust_domain)?.create(&id, state.now())?;
    warn_of_weak_selectors(&entry);
    let outcome = state.commit(Fact::CreateEntry(entry.clone())).await?;
    match outcome {
        Outcome::Done { .. } => Ok(Created::New(entry)),
        Outcome::Refused(Refusal::AlreadyExists(Some(id))) => match state.store.entry(&id).await? {
            Some(similar) => Ok(Created::Similar(similar)),
            None => Err(Problem::Conflict("a similar entry was deleted meanwhile".into())),
        },
        Outcome::Refused(Refusal::AlreadyExists(None)) => {
            Err(Problem::AlreadyExists(format!("entry ID '{}' is taken by a different entry", entry.id)))
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

/// Changes the masked fields of an entry; the revision grows even where nothing changes.
///
/// # Errors
/// As [`create`], and [`Problem::NotFound`].
pub async fn update(state: &State, draft: Draft, mask: Mask) -> Result<Entry, Problem> {
    let checked = check(draft, mask, &state.trust_domain)?;
    for _ in 0..UPDATE_TRIES {
        let Some(current) = state.store.entry(checked.id()).await? else { return Err(unknown(checked.id())) };
        let entry = checked.clone().apply(&current);
        let outcome = state.commit(Fact::UpdateEntry(entry.clone())).await?;
        match outcome {
            Outcome::Done { .. } => {
                warn_of_weak_selectors(&entry);
                return Ok(entry);
            }
            Outcome::Refused(Refusal::Stale) => {} // somebody else's change: lay ours over it
            Outcome::Refused(Refusal::NotFound) => return Err(unknown(checked.id())),
            Outcome::Refused(refusal) => return Err(refusal.into()),
        }
    }
    Err(Problem::Conflict(format!("entry '{}' keeps changing", checked.id())))
}

/// Deletes an entry.
///
/// # Errors
/// [`Problem::Invalid`] for an empty ID, [`Problem::NotFound`].
pub async fn delete(state: &State, id: &str) -> Result<(), Problem> {
    if id.is_empty() {
        return Err(Problem::Invalid("entry ID is missing".into()));
    }
    let outcome = state.commit(Fact::DeleteEntry(EntryRef { id: id.into() })).await?;
    match outcome.done() {
        Ok(_) => Ok(()),
        Err(Refusal::NotFound) => Err(unknown(id)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The entry `id`.
///
/// # Errors
/// [`Problem::Invalid`] for an empty ID, [`Problem::NotFound`].
pub async fn get(state: &State, id: &str) -> Result<Entry, Problem> {
    if id.is_empty() {
        return Err(Problem::Invalid("entry ID is missing".into()));
    }
    state.store.entry(id).await?.ok_or_else(|| unknown(id))
}

/// Entries that the filter lets through, in the database's order of the ID, and the token of the next page: non-empty
/// whenever the page holds a row, so the caller's last page is empty.
///
/// # Errors
/// [`Problem::Internal`] for a page token we did not make (as SPIRE). Source: spire-wire 1.0.5.
pub async fn list(state: &State, filter: &Filter, page: &Page) -> Result<(Vec<Entry>, String), Problem> {
    if !page.token.is_empty() {
        entry::check_entry_id(&page.token).map_err(|_| Problem::Internal("page token is not ours".into()))?;
    }
    let (size, mut last) = match usize::try_from(page.size) {
        Ok(size @ 1..) => (size, page.token.clone()),
        _ => (usize::MAX, String::new()),
    };
    let mut found = Vec::new();
    while found.len() < size {
        let read = state.store.entries(&last, READ).await?;
        let Some(newest) = read.last() else { break };
        last.clone_from(&newest.id);
        found.extend(read.into_iter().filter(|entry| filter.matches(entry)).take(size - found.len()));
    }
    let next = found.last().filter(|_| size < usize::MAX).map(|entry: &Entry| entry.id.clone()).unwrap_or_default();
    Ok((found, next))
}

/// Entries the node may serve, in the order of the ID. Source: spire-wire 4.3.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn authorized(state: &State, node: &Node) -> Result<Vec<Entry>, Problem> {
    state.view.look(|registry| registry.graph.authorized(&node.id, &node.selectors))
}

fn unknown(id: &str) -> Problem {
    Problem::NotFound(format!("no entry '{id}'"))
}

fn warn_of_weak_selectors(entry: &Entry) {
    if selector::only_executable(&entry.selectors) {
        tracing::warn!(
            entry = entry.id,
            "selectors describe who connects, not who shares its socket: add a uid, unit or container"
        );
    }
}
