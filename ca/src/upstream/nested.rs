//! An upstream that is another server of the same trust domain: this server is a downstream of it.
//!
//! Its SVID, of an entry marked downstream there, comes from a Workload API beside this server; with it the server
//! above is called over mutual TLS and must be exactly `spiffe://TD/spire/server`. What it answers is a stranger's
//! until it is judged: bounded in size and time here, in content by whoever asked. While it is away nothing here is
//! forgotten. Source: spire-wire 1.2, 1.4; docs/decisions/0043.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use chancery_daemon::public_key::PublicKey;
use chancery_proto::spire::api::{
    server::{
        bundle::v1::{GetBundleRequest, PublishJwtAuthorityRequest, bundle_client::BundleClient},
        svid::v1::{NewDownstreamX509caRequest, svid_client::SvidClient},
    },
    types,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    source::Source,
    time::UnixTime,
    tls::Allow,
    workload::Endpoint,
};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use tokio::{runtime::Handle, sync::Mutex, time::timeout};
use tonic::{Code, Status, transport::Channel};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Issued, JwtKey, Request, Upstream, UpstreamError};
use crate::store::{AuthorityKind, Followed};

/// Longest wait for an SVID of our own from the Workload API.
const WAIT: Duration = Duration::from_secs(5);
/// Longest time of a call, its connection included.
const CALL: Duration = Duration::from_secs(10);
/// Largest answer: a bundle of hundreds of authorities.
const MAX_ANSWER: usize = 1 << 20;
/// Most authorities of each kind that are followed.
const MAX_FOLLOWED: usize = 64;
/// The end of a JWT key whose server tells none: it goes when the server above takes it out.
const NO_END: UnixTime = UnixTime(253_402_300_799);

/// A server above.
pub struct Nested {
    domain: TrustDomain,
    /// `host:port`.
    server: String,
    workload: Endpoint,
    runtime: Handle,
    /// Made at the first call that can; guarded because two calls may come at once, and held while it is made.
    link: Mutex<Option<Channel>>,
    trouble: ArcSwapOption<String>,
}

impl std::fmt::Debug for Nested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nested").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Nested {
    /// The server at `server` (`host:port`), reached with the identity that the Workload API at `socket` gives. Asks
    /// nobody yet. Called inside a runtime.
    ///
    /// # Errors
    /// [`UpstreamError::Setup`] naming the key of the configuration.
    pub fn new(domain: &TrustDomain, server: &str, socket: &Path) -> Result<Self, UpstreamError> {
        let workload = Endpoint::unix(socket);
        let workload = workload.map_err(|e| UpstreamError::Setup(format!("upstream.workload_socket: {e}")))?;
        let runtime = Handle::try_current().map_err(|e| UpstreamError::Setup(format!("upstream: {e}")))?;
        let (domain, server) = (domain.clone(), server.to_owned());
        Ok(Self { domain, server, workload, runtime, link: Mutex::default(), trouble: ArcSwapOption::empty() })
    }

    /// Does `call` over a channel to the server above, within the deadline; once more where the connection was lost.
    fn ask<T, C, F>(&self, call: C) -> Result<T, UpstreamError>
    where
        C: Fn(Channel) -> F,
        F: Future<Output = Result<T, Status>>,
    {
        let asked = self.runtime.block_on(async {
            let told = |status: Status| UpstreamError::Away(format!("{}: {}", self.server, status_line(&status)));
            let once = async || {
                let channel = self.channel().await?;
                let late = |_| Err(Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs())));
                Ok::<_, UpstreamError>(timeout(CALL, call(channel)).await.unwrap_or_else(late))
            };
            match once().await? {
                // A connection that ended with our last SVID is noticed by the call that needed it.
                Err(lost) if matches!(lost.code(), Code::Unavailable | Code::Unknown) => once().await?.map_err(told),
                answered => answered.map_err(told),
            }
        });
        self.trouble.store(asked.as_ref().err().map(|problem: &UpstreamError| Arc::new(problem.to_string())));
        asked
    }

    /// The channel, which presents our newest SVID at each dial and trusts the newest bundle.
    async fn channel(&self) -> Result<Channel, UpstreamError> {
        let mut link = self.link.lock().await;
        if let Some(channel) = &*link {
            return Ok(channel.clone());
        }
        let told = |problem: String| UpstreamError::Away(format!("own SVID from {}: {problem}", self.workload));
        let source = Source::builder().endpoint(self.workload.clone()).wait(WAIT).connect();
        let source = source.await.map_err(|e| told(crate::run::chain(&e)))?;
        let server = SpiffeId::from_path(&self.domain, "/spire/server").map_err(|e| told(e.to_string()))?;
        let channel = source.channel(&format!("https://{}", self.server), Allow::id(&server));
        let channel = channel.map_err(|e| UpstreamError::Setup(format!("upstream.server: {e}")))?;
        Ok(link.insert(channel).clone())
    }
}

impl Upstream for Nested {
    fn issue(&self, request: &Request<'_>) -> Result<Issued, UpstreamError> {
        let preferred_ttl = i32::try_from(request.life_secs).unwrap_or(i32::MAX);
        let answer = self.ask(|channel| {
            let asked = NewDownstreamX509caRequest { csr: request.csr.to_vec(), preferred_ttl };
            async move { bounded_svid(channel).new_downstream_x509ca(asked).await.map(tonic::Response::into_inner) }
        })?;
        let mut chain = answer.ca_cert_chain.into_iter().map(CertificateDer::from);
        let certificate = chain.next().ok_or(UpstreamError::Answer("it has no certificate"))?;
        let anchors = answer.x509_authorities.into_iter().map(CertificateDer::from).collect();
        Ok(Issued { certificate, chain: chain.collect(), anchors })
    }

    fn publish(&self, key: &JwtKey) -> Result<Option<UnixTime>, UpstreamError> {
        let wire = types::JwtKey {
            public_key: key.spki.clone(),
            key_id: key.id.clone(),
            expires_at: key.not_after.0,
            ..types::JwtKey::default()
        };
        let answer = self.ask(|channel| {
            let asked = PublishJwtAuthorityRequest { jwt_authority: Some(wire.clone()) };
            async move { bounded_bundle(channel).publish_jwt_authority(asked).await.map(tonic::Response::into_inner) }
        })?;
        let mine = |k: &&types::JwtKey| k.key_id == key.id && k.public_key == key.spki;
        let published = answer.jwt_authorities.iter().find(mine);
        let published = published.ok_or(UpstreamError::Answer("it does not have the JWT key that was published"))?;
        Ok(Some(end(published.expires_at).min(key.not_after)))
    }

    fn bundle(&self) -> Result<Option<Vec<Followed>>, UpstreamError> {
        let bundle = self.ask(|channel| async move {
            bounded_bundle(channel).get_bundle(GetBundleRequest::default()).await.map(tonic::Response::into_inner)
        })?;
        followed(&self.domain, bundle).map(Some)
    }

    fn follows(&self) -> bool {
        true
    }

    fn away(&self) -> Option<String> {
        self.trouble.load().as_ref().map(|told| told.as_ref().clone())
    }
}

/// What a bundle from above says, as far as it can be used.
pub(super) fn followed(domain: &TrustDomain, bundle: types::Bundle) -> Result<Vec<Followed>, UpstreamError> {
    if bundle.trust_domain != domain.name() && bundle.trust_domain != domain.id().to_string() {
        return Err(UpstreamError::Answer("its bundle is another trust domain's"));
    }
    if bundle.x509_authorities.is_empty() {
        return Err(UpstreamError::Answer("its bundle has no X.509 authority"));
    }
    if bundle.x509_authorities.len() > MAX_FOLLOWED || bundle.jwt_authorities.len() > MAX_FOLLOWED {
        return Err(UpstreamError::Answer("its bundle has more than 64 authorities of a kind"));
    }
    let mut all: Vec<Followed> = Vec::new();
    for authority in bundle.x509_authorities {
        let Ok(([], parsed)) = X509Certificate::from_der(&authority.asn1) else {
            return Err(UpstreamError::Answer("an X.509 authority of its bundle is not DER"));
        };
        let id = hex::encode(digest(&SHA256, &authority.asn1));
        let not_after = UnixTime(parsed.validity().not_after.timestamp());
        all.push(Followed {
            kind: AuthorityKind::X509,
            id,
            not_after,
            tainted: authority.tainted,
            public: authority.asn1,
        });
    }
    for key in bundle.jwt_authorities {
        // A kind of key that nothing here verifies is no reason to do without the others.
        if PublicKey::from_spki(&key.public_key).is_none() || key.key_id.is_empty() {
            tracing::warn!(key = key.key_id, "a JWT key of the upstream's bundle is of an unknown kind; left out");
            continue;
        }
        let not_after = end(key.expires_at);
        all.push(Followed {
            kind: AuthorityKind::Jwt,
            id: key.key_id,
            not_after,
            tainted: key.tainted,
            public: key.public_key,
        });
    }
    all.sort_by(|a, b| (a.kind.as_str(), &a.id).cmp(&(b.kind.as_str(), &b.id)));
    all.dedup_by(|a, b| a.kind == b.kind && a.id == b.id);
    Ok(all)
}

fn end(expires_at: i64) -> UnixTime {
    if expires_at > 0 { UnixTime(expires_at).min(NO_END) } else { NO_END }
}

fn bounded_svid(channel: Channel) -> SvidClient<Channel> {
    SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn bounded_bundle(channel: Channel) -> BundleClient<Channel> {
    BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

/// What a status says; a transport's has its reason in the causes.
fn status_line(status: &Status) -> String {
    let cause = std::error::Error::source(status).map(|cause| format!(": {}", crate::run::chain(cause)));
    format!("{}: {}{}", status.code(), status.message(), cause.unwrap_or_default())
}

#[cfg(test)]
mod tests;
