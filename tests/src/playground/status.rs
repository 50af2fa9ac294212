use chancery_proto::chancery::attestor::v1::{GetStatusRequest, GetStatusResponse, attestor_client::AttestorClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::Machine;

impl Machine {
    /// What the attestor says of itself over its admin socket.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<GetStatusResponse, String> {
        let socket = self.admin_socket.clone();
        let dial = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let asked = async {
            let endpoint = Endpoint::from_static("http://attestor");
            let channel = endpoint.connect_with_connector(dial).await.map_err(|e| e.to_string())?;
            let answer = AttestorClient::new(channel).get_status(GetStatusRequest {}).await;
            answer.map(tonic::Response::into_inner).map_err(|e| e.message().to_owned())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(asked).map_err(|e| format!("{}: {e}", self.admin_socket.display()))
    }

    /// The address of the server that the attestor asks; empty where it is connected to none.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn server_in_use(&self) -> Result<String, String> {
        let used = self.status()?.servers.into_iter().find(|server| server.state == "in_use");
        Ok(used.map(|server| server.address).unwrap_or_default())
    }
}
