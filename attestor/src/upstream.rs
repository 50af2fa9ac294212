//! The CA as the workload side needs it: one trait, so that its rules are tested without a network.
//!
//! [`Ca`] is the only implementation in the product. Called by `sync`, `instance` and `api`.

use std::sync::Arc;

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
};
use futures_util::future::BoxFuture;

use crate::{
    ca::{
        AuthorizedClass, AuthorizedEntry, BeginInstance, Begun, Ca, CaError, Cursor, IssuedJwt, IssuedX509, Reconciled,
        Servers, Telling,
    },
    identity::TrustBundle,
    witness::Report,
};

/// An answer of the CA, awaited.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, CaError>>;

/// What is asked of the CA. Every method is as the one of [`Ca`] with its name.
pub trait Upstream: Send + Sync {
    /// What is known of the servers.
    fn servers(&self) -> Arc<Servers>;
    /// What this node may have, as it changes, from the cursor on; with the checkpoint that it keeps.
    fn watch(&self, cursor: Option<Cursor>, witnessed: Vec<u8>) -> Answer<'_, Telling>;
    /// Tells of a checkpoint that this node refuses.
    fn report_checkpoint<'a>(&'a self, report: &'a Report) -> Answer<'a, ()>;
    /// The entries this node is authorized for.
    fn entries(&self) -> Answer<'_, Vec<AuthorizedEntry>>;
    /// The classes that may begin on this node.
    fn classes(&self) -> Answer<'_, Vec<AuthorizedClass>>;
    /// The trust domain's own bundle.
    fn bundle(&self) -> Answer<'_, Arc<TrustBundle>>;
    /// The bundle of a federated domain, where the CA has one.
    fn federated<'a>(&'a self, domain: &'a TrustDomain) -> Answer<'a, Option<TrustBundle>>;
    /// X509-SVIDs of entries, `(entry ID, CSR)` each; answers in the order asked.
    fn new_x509_batch(&self, asked: Vec<(String, Vec<u8>)>) -> Answer<'_, Vec<Result<IssuedX509, CaError>>>;
    /// A JWT-SVID of an entry.
    fn new_jwt<'a>(&'a self, entry_id: &'a str, audience: &'a [String], origin: &'a Origin) -> Answer<'a, IssuedJwt>;
    /// Makes a process an instance.
    fn begin<'a>(&'a self, begin: &'a BeginInstance) -> Answer<'a, Begun>;
    /// A new SVID of a running instance.
    fn renew<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32], csr: Vec<u8>) -> Answer<'a, IssuedX509>;
    /// A JWT-SVID of a running instance.
    fn new_instance_jwt<'a>(
        &'a self,
        instance: &'a SpiffeId,
        start_token: [u8; 32],
        audience: &'a [String],
        origin: &'a Origin,
    ) -> Answer<'a, IssuedJwt>;
    /// Tells that the process has ended.
    fn end<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32]) -> Answer<'a, ()>;
    /// Tells which processes still live.
    fn reconcile<'a>(&'a self, boot: [u8; 32], live: &'a [[u8; 32]]) -> Answer<'a, Reconciled>;
}

impl Upstream for Ca {
    fn servers(&self) -> Arc<Servers> {
        Ca::servers(self)
    }

    fn watch(&self, cursor: Option<Cursor>, witnessed: Vec<u8>) -> Answer<'_, Telling> {
        Box::pin(Ca::watch(self, cursor, witnessed))
    }

    fn report_checkpoint<'a>(&'a self, report: &'a Report) -> Answer<'a, ()> {
        Box::pin(Ca::report_checkpoint(self, report))
    }

    fn entries(&self) -> Answer<'_, Vec<AuthorizedEntry>> {
        Box::pin(Ca::entries(self))
    }

    fn classes(&self) -> Answer<'_, Vec<AuthorizedClass>> {
        Box::pin(Ca::classes(self))
    }

    fn bundle(&self) -> Answer<'_, Arc<TrustBundle>> {
        Box::pin(Ca::bundle(self))
    }

    fn federated<'a>(&'a self, domain: &'a TrustDomain) -> Answer<'a, Option<TrustBundle>> {
        Box::pin(Ca::federated(self, domain))
    }

    fn new_x509_batch(&self, asked: Vec<(String, Vec<u8>)>) -> Answer<'_, Vec<Result<IssuedX509, CaError>>> {
        Box::pin(Ca::new_x509_batch(self, asked))
    }

    fn new_jwt<'a>(&'a self, entry_id: &'a str, audience: &'a [String], origin: &'a Origin) -> Answer<'a, IssuedJwt> {
        Box::pin(Ca::new_jwt(self, entry_id, audience, origin))
    }

    fn begin<'a>(&'a self, begin: &'a BeginInstance) -> Answer<'a, Begun> {
        Box::pin(Ca::begin(self, begin))
    }

    fn renew<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32], csr: Vec<u8>) -> Answer<'a, IssuedX509> {
        Box::pin(Ca::renew(self, instance, start_token, csr))
    }

    fn new_instance_jwt<'a>(
        &'a self,
        instance: &'a SpiffeId,
        start_token: [u8; 32],
        audience: &'a [String],
        origin: &'a Origin,
    ) -> Answer<'a, IssuedJwt> {
        Box::pin(Ca::new_instance_jwt(self, instance, start_token, audience, origin))
    }

    fn end<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(Ca::end(self, instance, start_token))
    }

    fn reconcile<'a>(&'a self, boot: [u8; 32], live: &'a [[u8; 32]]) -> Answer<'a, Reconciled> {
        Box::pin(Ca::reconcile(self, boot, live))
    }
}
