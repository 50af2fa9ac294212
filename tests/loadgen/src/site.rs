//! One run at one server: what it makes there, and that it is gone afterwards.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_proto::spire::api::types::{Bundle, Spiffeid};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    x509::X509Bundle,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Common,
    server::{Admin, Dialer, Known, Link, NewEntry, Node, SyncBy, synchronise},
    target::Target,
};

/// How long a server may take to show a node its new entries; SPIRE rebuilds its cache every 5 s.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks for them.
const LOOK: Duration = Duration::from_millis(50);
/// Selector of every entry here: no process has it, so no attestor serves these identities to anybody.
const SELECTOR: (&str, &str) = ("loadgen", "nobody");

/// A server, and what this run has made there.
pub struct Site {
    pub admin: Admin,
    pub dialer: Arc<Dialer>,
    /// Name of the trust domain.
    pub domain: String,
    /// This run's own name; every path it makes begins with `/loadgen/<run>`.
    pub run: String,
    pub stop: CancellationToken,
    parallel: usize,
    keep: bool,
    // Guards the list of what is to be removed; held for one push, never over an await.
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    entries: Vec<String>,
    nodes: Vec<Spiffeid>,
    has_alias: bool,
}

impl Site {
    /// Reaches the server at its admin socket.
    ///
    /// # Errors
    /// What cannot be reached or read, and what to do.
    pub async fn open(common: &Common, target: &Target, run: &str, stop: CancellationToken) -> Result<Self, String> {
        let admin = Admin::connect(&target.admin_socket).await?;
        let told = admin.bundle().await?;
        let domain = TrustDomain::from_name_or_id(&told.trust_domain).map_err(|e| e.to_string())?;
        let bundle = match &target.bundle {
            Some(file) => bundle_file(&domain, file)?,
            None => x509_bundle(&domain, &told)?,
        };
        let server = SpiffeId::from_path(&domain, "/spire/server").map_err(|e| e.to_string())?;
        Ok(Self {
            admin,
            dialer: Arc::new(Dialer::new(target.server, &server, bundle)),
            domain: domain.to_string(),
            run: run.into(),
            stop,
            parallel: common.setup_parallel.max(1),
            keep: common.keep,
            made: Mutex::default(),
        })
    }

    /// A path of this run's own.
    pub fn path(&self, rest: &str) -> String {
        format!("/loadgen/{}/{rest}", self.run)
    }

    /// An ID of the trust domain.
    pub fn id(&self, path: &str) -> Spiffeid {
        Spiffeid { trust_domain: self.domain.clone(), path: path.into() }
    }

    /// Tokens for `count` nodes; with `alias` all of them also go by that path.
    ///
    /// # Errors
    /// What the server says of the first that fails.
    pub async fn tokens(&self, count: usize, alias: Option<&str>) -> Result<Vec<String>, String> {
        self.made().has_alias |= alias.is_some();
        let alias = alias.map(|path| self.id(path));
        let one = |_| self.admin.token(alias.clone());
        self.unless_stopped(stream::iter(0..count).map(one).buffered(self.parallel).try_collect()).await
    }

    /// Attested nodes of this process, a handful.
    ///
    /// # Errors
    /// What the server says of the first that fails.
    pub async fn nodes(&self, count: usize) -> Result<Vec<Node>, String> {
        let tokens = self.tokens(count, None).await?;
        let source: Option<IpAddr> = None;
        let one = |token: String| async move { Node::attest(&self.dialer, &token, source).await };
        let nodes = stream::iter(tokens).map(one).buffered(self.parallel).try_collect::<Vec<_>>();
        let nodes = self.unless_stopped(nodes).await?;
        self.remember_nodes(nodes.iter().map(|node| node.id.clone()));
        Ok(nodes)
    }

    /// Sees to it that nodes are removed at the end.
    pub fn remember_nodes(&self, ids: impl IntoIterator<Item = Spiffeid>) {
        self.made().nodes.extend(ids);
    }

    /// Makes an entry for each (parent's path, own path); answers their IDs.
    ///
    /// # Errors
    /// What the server says of the first that fails.
    pub async fn entries(&self, paths: Vec<(String, String)>) -> Result<Vec<String>, String> {
        let selector = || (SELECTOR.0.to_owned(), SELECTOR.1.to_owned());
        let new = |(parent, path)| NewEntry { parent, path, selector: selector() };
        self.entries_of(&paths.into_iter().map(new).collect::<Vec<_>>()).await
    }

    /// Makes entries as they are given; answers their IDs.
    ///
    /// # Errors
    /// What the server says of the first that fails.
    pub async fn entries_of(&self, entries: &[NewEntry]) -> Result<Vec<String>, String> {
        let ids = self.admin.create(&self.domain, entries).await?;
        self.made().entries.extend(ids.iter().cloned());
        Ok(ids)
    }

    /// Waits until a node sees at least `count` entries.
    ///
    /// # Errors
    /// How many it saw after half a minute.
    pub async fn shown(&self, link: &Link, count: usize) -> Result<(), String> {
        let end = tokio::time::Instant::now() + SHOWN_WITHIN;
        loop {
            let seen = synchronise(link, SyncBy::Get, &mut Known::default(), |_| {}).await;
            let seen = seen.map_err(|e| format!("GetAuthorizedEntries: {} ({:?})", e.message(), e.code()))?;
            if seen >= count as u64 {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                let secs = SHOWN_WITHIN.as_secs();
                return Err(format!("the node sees {seen} of its {count} entries after {secs} s"));
            }
            self.unless_stopped(async {
                tokio::time::sleep(LOOK).await;
                Ok(())
            })
            .await?;
        }
    }

    /// Waits for `work` unless the run is stopped.
    ///
    /// # Errors
    /// The work's own, or that it was stopped.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err("stopped before anything was measured".into()),
            done = work => done,
        }
    }

    /// Removes what the run made.
    pub async fn close(&self) {
        if self.keep {
            return;
        }
        let mut made = std::mem::take(&mut *self.made());
        if made.has_alias {
            match self.admin.entries_of(self.id(&self.path(FLEET))).await {
                Ok(ids) => made.entries.extend(ids),
                Err(e) => eprintln!("loadgen: cleaning up: {e}"),
            }
        }
        let entries = self.admin.delete(&made.entries).await;
        let nodes = stream::iter(made.nodes).map(|id| self.admin.evict(id)).buffer_unordered(self.parallel);
        let nodes = nodes.try_collect::<Vec<()>>().await;
        if let Err(e) = entries.and(nodes.map(drop)) {
            let path = self.path("");
            eprintln!("loadgen: cleaning up: {e}; what is left: nodes without a process, entries below {path}");
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Last part of the path that all nodes of a run share where an entry is to reach all of them.
pub const FLEET: &str = "fleet";

fn bundle_file(domain: &TrustDomain, file: &Path) -> Result<X509Bundle, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("--bundle {}: {e}", file.display()))?;
    X509Bundle::from_pem(domain.clone(), &text).map_err(|e| format!("--bundle {}: {e}", file.display()))
}

/// The X.509 authorities of a bundle message.
///
/// # Errors
/// One of them is no certificate.
pub fn x509_bundle(domain: &TrustDomain, told: &Bundle) -> Result<X509Bundle, String> {
    let der: Vec<u8> = told.x509_authorities.iter().flat_map(|authority| authority.asn1.clone()).collect();
    X509Bundle::from_der_concatenated(domain.clone(), &der).map_err(|e| format!("GetBundle: {e}"))
}
