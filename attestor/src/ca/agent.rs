use chancery_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
};
use tonic::{Code, transport::Channel};

use super::{Ca, CaError, IssuedX509, wire};

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

    /// Tells the CA our version over one channel: the first call of an SVID, which makes its serial the current one.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn post_status(channel: Channel) -> Result<(), CaError> {
        let request = PostStatusRequest { current_bundle_serial: 0, agent_version: env!("CARGO_PKG_VERSION").into() };
        match AgentClient::new(channel).post_status(request).await {
            Ok(_) => Ok(()),
            // SPIRE servers of some releases do not know it; that it was answered is what counts.
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    /// Whether the CA still takes calls of this node.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn confirm(&self) -> Result<(), CaError> {
        let request = PostStatusRequest { current_bundle_serial: 0, agent_version: env!("CARGO_PKG_VERSION").into() };
        let asked = self.call(|channel| {
            let request = request.clone();
            async move { AgentClient::new(channel).post_status(request).await }
        });
        match asked.await {
            Ok(_) | Err(CaError::Refused { code: Code::Unimplemented, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
