use std::sync::Arc;

use chancery_core::selector::Selectors;
use chancery_proto::{
    chancery::attestor::v1::{Candidate, ExplainResponse},
    spire::api::types,
};

use super::{Door, Refusal, door::matched};
use crate::{
    cache::View,
    peer::{Caller, PeerError},
};

/// Candidates shown of each kind.
const NEAREST: usize = 10;

/// What a process is to us, and why; begins nothing.
pub(super) async fn explain(door: &Door, pid: i32) -> Result<ExplainResponse, Refusal> {
    let caller = Caller::by_number(pid).map_err(|e| match e {
        PeerError::Ended { .. } | PeerError::Namespace => Refusal::Argument(format!("there is no process {pid}")),
        other => Refusal::Unavailable(other.to_string()),
    })?;
    let caller = Arc::new(caller);
    let selectors = door.attestors.attest(&caller).await?;
    let view = door.cache.view();
    let known = door.instances.known(caller.process.start_token());
    let verdict = verdict(door, &view, &selectors);
    Ok(ExplainResponse {
        entries: nearest(
            view.entries.values().map(|e| (e.id.as_str(), e.spiffe_id.as_str(), &e.selectors)),
            &selectors,
        ),
        classes: nearest(view.classes.iter().map(|c| (c.name.as_str(), "", &c.selectors)), &selectors),
        selectors: wire(selectors.iter()),
        instance_id: known.map(|(id, _)| id.to_string()).unwrap_or_default(),
        verdict,
    })
}

/// What a call would get, one line.
fn verdict(door: &Door, view: &Arc<View>, selectors: &Selectors) -> String {
    if let Err(refusal) = door.standing() {
        return format!("refused: {refusal}");
    }
    match matched(Arc::clone(view), selectors.clone()) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(e) if e.is_empty() => "refused: no entry and no class matches".into(),
        Ok(e) => {
            let class = e.class.map(|c| format!("an instance of class {}", c.name));
            let entries = (!e.entries.is_empty()).then(|| format!("{} entries", e.entries.len()));
            class.into_iter().chain(entries).collect::<Vec<_>>().join(" and ")
        }
    }
}

/// Those that match, then those that lack least.
fn nearest<'a>(all: impl Iterator<Item = (&'a str, &'a str, &'a Selectors)>, selectors: &Selectors) -> Vec<Candidate> {
    let mut candidates: Vec<_> = all
        .map(|(name, spiffe_id, wanted)| {
            let missing = wire(wanted.difference(selectors));
            Candidate { name: name.into(), spiffe_id: spiffe_id.into(), matches: missing.is_empty(), missing }
        })
        .collect();
    candidates.sort_by(|a, b| (a.missing.len(), &a.name).cmp(&(b.missing.len(), &b.name)));
    candidates.truncate(NEAREST);
    candidates
}

fn wire<'a>(selectors: impl Iterator<Item = &'a chancery_core::selector::Selector>) -> Vec<types::Selector> {
    selectors.map(|s| types::Selector { r#type: s.kind().into(), value: s.value().into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_candidate_says_what_it_lacks() {
        let set = |list: &[&str]| list.iter().map(|s| s.parse().unwrap()).collect::<Selectors>();
        let caller = set(&["unix:uid:1", "unix:gid:2"]);
        let (far, near, hit) =
            (set(&["unix:uid:9", "unix:gid:9"]), set(&["unix:uid:1", "unix:gid:3"]), set(&["unix:uid:1"]));
        let all = [("far", "", &far), ("near", "", &near), ("hit", "", &hit)];
        let found = nearest(all.into_iter(), &caller);
        let names: Vec<_> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["hit", "near", "far"]);
        assert!(found[0].matches);
        assert_eq!(found[1].missing, wire(set(&["unix:gid:3"]).iter()));
    }
}
