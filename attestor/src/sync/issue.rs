use std::{collections::BTreeMap, sync::Arc};

use super::Syncer;
use crate::{
    ca::{AuthorizedEntry, CaError, IssuedX509},
    cache::{EntrySvid, FreshKey, Svid, View, fresh_key},
    metrics::Issued,
    plan::{Held, plan},
    taint::Taints,
};

/// SVIDs asked for in one call (SPIRE's limit).
const BATCH: usize = 500;

impl Syncer {
    /// Drops what ended and has SVIDs issued for what is new, changed or due.
    pub(super) async fn issue(&self) {
        let view = self.cache.view();
        if !view.ready() {
            return;
        }
        let plan = plan(
            view.entries.values().map(|e| &**e),
            &held(&view, &self.taints),
            &self.cache.used(&view),
            (self.clock)(),
        );
        if !plan.drop.is_empty() {
            let mut view = View::clone(&view);
            view.svids.retain(|id, _| !plan.drop.contains(id));
            self.cache.publish(view);
        }
        for ids in plan.issue.chunks(BATCH) {
            let entries: Vec<_> = ids.iter().filter_map(|id| view.entries.get(id).cloned()).collect();
            if let Err(error) = self.issue_batch(entries).await {
                tracing::warn!(%error, "no SVIDs from the CA; what is held stays until it ends");
                return;
            }
        }
    }

    async fn issue_batch(&self, entries: Vec<Arc<AuthorizedEntry>>) -> Result<(), CaError> {
        let keys = fresh_key(entries.len()).await.map_err(|e| CaError::Lost(e.to_string()))?;
        let asked = entries.iter().zip(&keys).map(|(entry, key)| (entry.id.clone(), key.csr.clone())).collect();
        let answers = self.upstream.new_x509_batch(asked).await?;
        let mut view = View::clone(&self.cache.view());
        // The standing may have gone meanwhile; the other writer of the cache is this same task.
        if !view.ready() || self.identity.borrow().is_none() {
            return Ok(());
        }
        for ((entry, key), answer) in entries.into_iter().zip(keys).zip(answers) {
            match answer.map_err(|e| e.to_string()).and_then(|issued| self.checked(&entry, key, &issued)) {
                Ok(svid) => {
                    self.metrics.issued(Issued::Entry);
                    let held = EntrySvid { svid, revision: entry.revision, created_at: entry.created_at };
                    view.svids.insert(entry.id.clone(), Arc::new(held));
                }
                Err(error) => tracing::warn!(entry = entry.id, error, "no SVID for this entry"),
            }
        }
        self.cache.publish(view);
        Ok(())
    }

    /// What was issued, if it is what was asked for.
    fn checked(&self, entry: &AuthorizedEntry, key: FreshKey, issued: &IssuedX509) -> Result<Arc<Svid>, String> {
        if issued.id != entry.spiffe_id {
            return Err(format!("asked for {}, got {}", entry.spiffe_id, issued.id));
        }
        Svid::new(issued, key.pkcs8, &self.rotation, (self.clock)()).map(Arc::new).map_err(|e| e.to_string())
    }
}

fn held(view: &View, taints: &Taints) -> BTreeMap<String, Held> {
    let one = |(id, e): (&String, &Arc<EntrySvid>)| {
        let held = Held {
            id: e.svid.id.clone(),
            revision: e.revision,
            created_at: e.created_at,
            rotate_at: taints.due(&e.svid),
            expires_at: e.svid.expires_at,
        };
        (id.clone(), held)
    };
    view.svids.iter().map(one).collect()
}
