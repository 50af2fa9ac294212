use std::sync::Arc;

use chancery_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, PostStatusRequest, PostStatusResponse, RenewAgentRequest, agent_client::AgentClient,
};
use tonic::{Code, Response, Status, transport::Channel};

use super::{Ca, CaError, IssuedX509, Line, wire};

impl Ca {
    /// A new SVID of the node itself, for nodes that cannot attest again. `csr` is DER PKCS#10.
    ///
    /// # Errors
    /// [`CaError`]; `Denied(MustReattest)` for nodes that can.
    pub(crate) async fn renew_agent(&self, csr: Vec<u8>) -> Result<IssuedX509, CaError> {
        let answer = self
            .call(|channel| {
                let request = RenewAgentRequest { params: Some(AgentX509svidParams { csr: csr.clone() }) };
                async move { AgentClient::new(channel).renew_agent(request).await }
            })
            .await?;
        wire::x509_svid(answer.svid)
    }

    /// Tells the CA our version over one line: the first call of an SVID, which makes its serial the current one.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn post_status(line: &Arc<Line>) -> Result<(), CaError> {
        // SPIRE servers of some releases do not know it; that it was answered is what counts.
        known(line.ask(&post_status).await.map(drop))
    }

    /// Whether the CA still takes calls of this node.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn confirm(&self) -> Result<(), CaError> {
        known(self.call(post_status).await.map(drop))
    }
}

async fn post_status(channel: Channel) -> Result<Response<PostStatusResponse>, Status> {
    let request = PostStatusRequest { current_bundle_serial: 0, agent_version: env!("CARGO_PKG_VERSION").into() };
    AgentClient::new(channel).post_status(request).await
}

fn known(answer: Result<(), CaError>) -> Result<(), CaError> {
    match answer {
        Err(CaError::Refused { code: Code::Unimplemented, .. }) => Ok(()),
        other => other,
    }
}
