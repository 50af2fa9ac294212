use std::collections::BTreeSet;

use chancery_sdk::id::TrustDomain;
use futures_util::{StreamExt, TryStreamExt, future::try_join3, stream};
use tonic::Code;

use super::{Syncer, feed::State};
use crate::{
    ca::{AuthorizedClass, CaError},
    identity::TrustBundle,
};

/// Federated bundles asked for at once (SPIRE's).
const PARALLEL: usize = 10;

impl Syncer {
    /// One round: everything the CA tells, published together. Whether it succeeded.
    pub(super) async fn poll(&mut self) -> bool {
        let told = self.told().await;
        // The standing may have gone while the CA was asked; then the answer is worth nothing.
        if self.identity.borrow().is_none() {
            return false;
        }
        match told {
            Ok(state) => {
                // What the stream tells later is applied to this; what it told before is in it.
                let (cursor, crls) = (self.state.cursor.take(), std::mem::take(&mut self.state.crls));
                self.state = State { cursor, crls, ..state };
                self.publish();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "sync with the CA failed; what is held stays until it ends");
                false
            }
        }
    }

    async fn told(&self) -> Result<State, CaError> {
        let up = &self.upstream;
        let (entries, classes, own) = try_join3(up.entries(), self.classes(), up.bundle()).await?;
        self.taints.note(&own.tainted);
        let domains: BTreeSet<_> = entries.iter().flat_map(|e| e.federates_with.iter().cloned()).collect();
        let federated = self.federated(domains).await?;
        Ok(State {
            entries: entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect(),
            classes: classes.into_iter().map(|class| (class.name.clone(), class)).collect(),
            own: Some(own),
            foreign: federated.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            ..State::default()
        })
    }

    /// A SPIRE server knows no classes: that is none, not a failure.
    async fn classes(&self) -> Result<Vec<AuthorizedClass>, CaError> {
        match self.upstream.classes().await {
            Err(CaError::Refused { code: Code::Unimplemented, .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The bundles that the CA has of these domains.
    async fn federated(&self, domains: BTreeSet<TrustDomain>) -> Result<Vec<TrustBundle>, CaError> {
        let ask = |domain: TrustDomain| async move { self.upstream.federated(&domain).await };
        let answers = stream::iter(domains).map(ask).buffered(PARALLEL);
        answers.try_filter_map(|bundle| async { Ok(bundle) }).try_collect().await
    }
}
