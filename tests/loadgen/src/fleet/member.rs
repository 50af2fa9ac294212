use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chancery_proto::spire::api::{
    server::svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    types::Entry,
};
use tokio::time::timeout;
use tonic::Status;

use crate::{
    pace::Ledger,
    server::{Dialer, Known, Link, Node, SyncBy, issued, synchronise, word},
    stats::Outcome,
};

/// Rest between two tries to come back, doubled up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// One node of a fleet.
pub(super) struct Member {
    /// Its number in the whole fleet.
    pub(super) index: usize,
    pub(super) node: Node,
    // Guards the connection that calls use; held for one look or swap, never over an await.
    link: Mutex<Option<Link>>,
    // Guards the IDs of its entries, as its last first call told them; held for one look or swap.
    entries: Mutex<Vec<String>>,
}

impl Member {
    /// Attests; `attest` is timed from the first byte of TCP to the SVID.
    pub(super) async fn attest(
        dialer: &Arc<Dialer>,
        token: &str,
        index: usize,
        source: Option<std::net::IpAddr>,
        ledger: &Ledger,
    ) -> Result<Self, String> {
        let begun = Instant::now();
        let node = Node::attest(dialer, token, source).await;
        let outcome = node.as_ref().map(|_| 1).map_err(|_| "Attest".to_owned());
        ledger.open().call("attest", begun.elapsed(), outcome);
        Ok(Self { index, node: node?, link: Mutex::default(), entries: Mutex::default() })
    }

    /// Dials and makes a first call: in TLS 1.3 a connection proves nothing before its first answer.
    pub(super) async fn connect(&self, ledger: &Ledger) -> Result<(), String> {
        // Before the new one: a node has one connection, and one descriptor.
        self.hang_up();
        let begun = Instant::now();
        let link = self.node.connect().await.inspect_err(|_| ledger.open().count("dials_failed", 1))?;
        ledger.open().time("dial", begun.elapsed());
        let first = Instant::now();
        let mut entries = Vec::new();
        let see = |entry: &Entry| entries.push(entry.id.clone());
        let answer = synchronise(&link, SyncBy::Get, &mut Known::default(), see).await;
        if answer.is_ok() {
            ledger.open().time("first", first.elapsed());
        }
        answer.map_err(|e| format!("GetAuthorizedEntries: {} ({:?})", e.message(), e.code()))?;
        *self.entries.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        *self.slot() = Some(link);
        Ok(())
    }

    /// IDs of its entries when it last connected.
    pub(super) fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has an entry's SVID issued.
    pub(super) async fn issue(&self, entry_id: &str, csr: &[u8]) -> Outcome {
        let link = self.link().map_err(|status| word(&status))?;
        let answer = link.call(|channel| {
            let params = vec![NewX509svidParams { entry_id: entry_id.into(), csr: csr.to_vec() }];
            async move { SvidClient::new(channel).batch_new_x509svid(BatchNewX509svidRequest { params }).await }
        });
        issued(&answer.await.map_err(|status| word(&status))?, 1)
    }

    /// Connects until it is there or `patience` is over; answers whether it is.
    pub(super) async fn come_back(&self, patience: Duration, ledger: &Ledger) -> bool {
        let mut rest = FIRST_REST;
        let tries = async {
            while self.connect(ledger).await.is_err() {
                ledger.open().count("tries_failed", 1);
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
        };
        timeout(patience, tries).await.is_ok()
    }

    /// A new SVID and a connection that uses it; the old one is closed first.
    pub(super) async fn renew(&self, ledger: &Ledger) -> Result<(), String> {
        let link = self.link().map_err(|status| word(&status))?;
        self.node.renew(&link).await.map_err(|status| word(&status))?;
        drop(link);
        self.connect(ledger).await.map_err(|_| "Reconnect".to_owned())
    }

    /// Closes the connection.
    pub(super) fn hang_up(&self) {
        *self.slot() = None;
    }

    /// The connection.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn link(&self) -> Result<Link, Status> {
        self.slot().clone().ok_or_else(|| Status::unavailable("not connected"))
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
