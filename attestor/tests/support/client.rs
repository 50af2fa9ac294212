use std::{path::Path, sync::Mutex};

use chancery_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::PATIENCE;

/// A plain client: it checks nothing, so that tests see what was sent.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
}

/// The code of a refusal; panics on an answer.
pub fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().expect("a refusal").code()
}

/// A request with the header.
pub fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// The next message of a stream.
pub async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time")?;
    Ok(message.expect("the stream goes on"))
}

impl Client {
    pub async fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).await.unwrap()).await
    }

    /// Speaks over a connection that somebody made, perhaps another process.
    pub async fn over(stream: UnixStream) -> Self {
        let stream = Mutex::new(Some(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.lock().unwrap().take();
            async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("only once")) }
        });
        let channel = Endpoint::from_static("http://workload").connect_with_connector(connector).await.unwrap();
        Self { channel }
    }

    pub fn api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel.clone())
    }

    pub async fn watch_x509(&self) -> Result<Streaming<X509svidResponse>, Status> {
        Ok(self.api().fetch_x509svid(with_header(X509svidRequest {})).await?.into_inner())
    }

    pub async fn x509(&self) -> Result<X509svidResponse, Status> {
        next(&mut self.watch_x509().await?).await
    }

    pub async fn watch_x509_bundles(&self) -> Result<Streaming<X509BundlesResponse>, Status> {
        Ok(self.api().fetch_x509_bundles(with_header(X509BundlesRequest {})).await?.into_inner())
    }

    pub async fn x509_bundles(&self) -> Result<X509BundlesResponse, Status> {
        next(&mut self.watch_x509_bundles().await?).await
    }

    pub async fn jwt_bundles(&self) -> Result<JwtBundlesResponse, Status> {
        let stream = self.api().fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await?;
        next(&mut stream.into_inner()).await
    }

    pub async fn jwt(&self, audience: &[&str], id: &str) -> Result<JwtsvidResponse, Status> {
        let audience = audience.iter().map(|&a| a.to_owned()).collect();
        let request = with_header(JwtsvidRequest { audience, spiffe_id: id.into() });
        Ok(self.api().fetch_jwtsvid(request).await?.into_inner())
    }

    pub async fn validate(&self, audience: &str, token: &str) -> Result<ValidateJwtsvidResponse, Status> {
        let request = with_header(ValidateJwtsvidRequest { audience: audience.into(), svid: token.into() });
        Ok(self.api().validate_jwtsvid(request).await?.into_inner())
    }

    /// Without the header.
    pub async fn serving(&self) -> bool {
        let answer = HealthClient::new(self.channel.clone()).check(HealthCheckRequest::default()).await;
        answer.is_ok_and(|a| a.into_inner().status() == ServingStatus::Serving)
    }
}
