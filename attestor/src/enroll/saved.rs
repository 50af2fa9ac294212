use std::sync::Arc;

use chancery_sdk::time::UnixTime;
use tokio::task::spawn_blocking;

use super::{EnrolError, attest::checked, held::Held, task::Enroller};
use crate::{
    ca::wire,
    crypto::{AnyNodeKey, MemoryKey, SignError},
    node::CollectError,
    state::{Saved, SavedKey, SavedSvid},
    tpm::{NodeKeyBlob, TpmError, TpmKey},
};

/// What survives a restart.
impl Enroller {
    /// Takes up the saved SVID where it is still good for something.
    pub(super) async fn resume(&mut self) {
        let Some(svid) = self.parts.saved.take().and_then(|saved| saved.svid) else { return };
        let id = svid.id.clone();
        match self.reopen(svid).await {
            Ok(held) => {
                let bundle = Arc::clone(&self.parts.bundle);
                self.adopt(held, bundle).await;
            }
            Err(error) => tracing::info!(%id, %error, "the saved SVID is not used"),
        }
    }

    pub(super) fn save(&self) {
        let svid = self.held.as_ref().map(Held::to_saved);
        let saved = Saved::new(self.parts.bootstrap_sha256.clone(), &self.parts.bundle, svid);
        if let Err(error) = self.parts.folder.save(&saved) {
            tracing::error!(%error, "the state is not saved; after a restart the node attests anew");
        }
    }

    async fn reopen(&self, saved: SavedSvid) -> Result<Held, EnrolError> {
        let key = self.reopen_key(&saved.key).await?;
        let issued = wire::Issued { id: saved.id.clone(), chain: saved.certificates(), expires_at: UnixTime(0) };
        let kind = self.parts.collector.kind();
        checked(issued, saved.reattestable, key, saved.key, &self.parts.bundle, kind)
    }

    async fn reopen_key(&self, saved: &SavedKey) -> Result<AnyNodeKey, CollectError> {
        match (saved, &self.parts.tpm) {
            (SavedKey::Pkcs8(pkcs8), _) => Ok(Arc::new(MemoryKey::from_pkcs8(pkcs8)?)),
            (SavedKey::Token { label, spki }, _) => {
                let token = self.parts.token.clone();
                let token = token.ok_or_else(|| SignError("it is in a token that is not configured".into()))?;
                let (label, spki) = (label.clone(), spki.clone());
                let found = spawn_blocking(move || token.saved_svid_key(&label, &spki)).await;
                Ok(Arc::new(found.map_err(|e| SignError(e.to_string()))??))
            }
            (SavedKey::Tpm { .. }, None) => Err(SignError("it is in a TPM that is not configured".into()).into()),
            (SavedKey::Tpm { private, public }, Some(tpm)) => {
                let blob = NodeKeyBlob { private: private.clone(), public: public.clone() };
                let tpm = tpm.clone();
                let load = move || -> Result<Arc<TpmKey>, TpmError> {
                    tpm.check_node_key(&blob)?;
                    TpmKey::new(tpm, blob)
                };
                let key = spawn_blocking(load).await.map_err(|e| SignError(e.to_string()))??;
                Ok(key)
            }
        }
    }
}
