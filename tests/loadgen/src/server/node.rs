//! One node: a real SVID by join token, its connection, its renewal.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use chancery_proto::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, RenewAgentRequest,
        agent_client::AgentClient,
        attest_agent_request::{Params, Step},
        attest_agent_response::Step as Answer,
    },
    types::{AttestationData, Spiffeid, X509svid},
};
use chancery_sdk::{peer::connection_lost, x509};
use rcgen::KeyPair;
use rustls::sign::CertifiedKey;
use tonic::{Response, Status, transport::Channel};

use super::{Dialer, key};

/// An attested node.
pub struct Node {
    /// Its ID, as the server said it.
    pub id: Spiffeid,
    /// Where its connections come from.
    pub source: Option<IpAddr>,
    dialer: Arc<Dialer>,
    // Guards what a renewal replaces; held for one look or swap, never over an await.
    held: Mutex<Held>,
}

#[derive(Clone)]
struct Held {
    key: Arc<CertifiedKey>,
    /// Hex key ID of the authority that signed the SVID.
    authority: String,
    expires_at: i64,
}

/// A connection of a node. Clones share it.
#[derive(Clone)]
pub struct Link {
    channel: Channel,
}

impl Node {
    /// Attests with `token`, over a connection without a client certificate.
    ///
    /// # Errors
    /// A word for `errors`, and the line for people.
    pub async fn attest(dialer: &Arc<Dialer>, token: &str, source: Option<IpAddr>) -> Result<Self, String> {
        let (key, csr) = key::node_key()?;
        let channel = dialer.channel(None, source).await?;
        let data = AttestationData { r#type: "join_token".into(), payload: token.as_bytes().to_vec() };
        let params = Params { data: Some(data), params: Some(AgentX509svidParams { csr }) };
        let opening = AttestAgentRequest { step: Some(Step::Params(params)) };
        let mut client = AgentClient::new(channel);
        let say = |e: &Status| format!("AttestAgent: {} ({:?})", e.message(), e.code());
        let mut answers = client.attest_agent(tokio_stream::once(opening)).await.map_err(|e| say(&e))?.into_inner();
        let answer = answers.message().await.map_err(|e| say(&e))?.and_then(|answer| answer.step);
        let Some(Answer::Result(result)) = answer else {
            return Err("AttestAgent: neither an SVID nor a refusal for a join token".into());
        };
        let svid = result.svid.ok_or("AttestAgent: the SVID is missing")?;
        let id = svid.id.clone().ok_or("AttestAgent: the SVID's ID is missing")?;
        let held = Mutex::new(Held::new(svid, &key)?);
        Ok(Self { id, source, dialer: Arc::clone(dialer), held })
    }

    /// A new connection that presents the node's SVID.
    ///
    /// # Errors
    /// Who could not be reached, and why.
    pub async fn connect(&self) -> Result<Link, String> {
        let key = self.held().key;
        Ok(Link { channel: self.dialer.channel(Some(key), self.source).await? })
    }

    /// Gets a new SVID; the old one stays good until the new one is first used. Connect anew afterwards.
    ///
    /// # Errors
    /// The server's status.
    pub async fn renew(&self, link: &Link) -> Result<(), Status> {
        let (key, csr) = key::node_key().map_err(Status::internal)?;
        let request = RenewAgentRequest { params: Some(AgentX509svidParams { csr }) };
        let answer = link.call(|channel| {
            let request = request.clone();
            async move { AgentClient::new(channel).renew_agent(request).await }
        });
        let svid = answer.await?.svid.ok_or_else(|| Status::internal("RenewAgent: the SVID is missing"))?;
        let fresh = Held::new(svid, &key).map_err(Status::internal)?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// End of the SVID, Unix seconds.
    pub fn expires_at(&self) -> i64 {
        self.held().expires_at
    }

    /// Hex key ID of the authority that signed the SVID.
    pub fn authority(&self) -> String {
        self.held().authority
    }

    fn held(&self) -> Held {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Held {
    fn new(svid: X509svid, key: &KeyPair) -> Result<Self, String> {
        let leaf = svid.cert_chain.first().ok_or("the SVID's chain is empty")?;
        let authority: String =
            x509::authority_key_id(leaf).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { authority, expires_at: svid.expires_at, key: key::certified(svid.cert_chain, key)? })
    }
}

impl Link {
    /// Over a channel that somebody else dialled.
    pub fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// Makes a call, and once more where the connection was lost: servers close old connections, and the channel dials
    /// anew.
    ///
    /// # Errors
    /// The status of the last attempt.
    pub async fn call<T, F, Fut>(&self, ask: F) -> Result<T, Status>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        match ask(self.channel.clone()).await {
            Err(status) if connection_lost(&status) => ask(self.channel.clone()).await.map(Response::into_inner),
            answer => answer.map(Response::into_inner),
        }
    }
}
