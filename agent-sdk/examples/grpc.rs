//! gRPC between two identities, with tonic: the standard health service over mutual TLS.
//!
//! `SPIFFE_ENDPOINT_SOCKET` says where the Workload API is. Three ways to run it:
//! ```text
//! cargo run --example grpc                                   # server and client in one process
//! cargo run --example grpc -- serve 127.0.0.1:8443           # welcomes its own trust domain
//! cargo run --example grpc -- call https://127.0.0.1:8443
//! ```

use chancery_sdk::{
    Source,
    peer::PeerIdentity,
    tls::{Allow, H2},
};
use tokio::net::TcpListener;
use tonic::{Request, Status, transport::Server};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer},
    server::{HealthReporter, HealthService},
};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let source = Source::builder().connect().await?;
    println!("I am {}", source.svid()?.id());
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo(source).await,
        ["call", target] => call(&source, target).await,
        ["serve", address] => serve(&source, TcpListener::bind(address).await?).await,
        _ => Err("usage: grpc [serve ADDRESS | call https://ADDRESS]".into()),
    }
}

/// Serves on a port of the kernel's choice and calls itself.
pub async fn demo(source: Source) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("https://{}", listener.local_addr()?);
    let server = source.clone();
    let serving = tokio::spawn(async move { serve(&server, listener).await });
    let outcome = call(&source, &target).await;
    serving.abort();
    outcome
}

/// Welcomes every member of our own trust domain.
pub async fn serve(source: &Source, listener: TcpListener) -> Outcome {
    let own = source.svid()?.id().trust_domain();
    let incoming = source.acceptor(Allow::trust_domain(&own), &[H2])?.incoming(listener);
    let health = HealthService::from_health_reporter(HealthReporter::new());
    // Any handler finds the peer like this; here an interceptor does.
    let health = HealthServer::with_interceptor(health, |request: Request<()>| {
        let Some(peer) = request.extensions().get::<PeerIdentity>() else {
            return Err(Status::unauthenticated("no peer identity"));
        };
        println!("{} asks for our health", peer.id());
        Ok(request)
    });
    Server::builder().add_service(health).serve_with_incoming(incoming).await?;
    Ok(())
}

/// Asks the server at `target` for its health; it must be of our own trust domain.
pub async fn call(source: &Source, target: &str) -> Outcome {
    let own = source.svid()?.id().trust_domain();
    let mut client = HealthClient::new(source.channel(target, Allow::trust_domain(&own))?);
    let answer = client.check(HealthCheckRequest::default()).await?.into_inner();
    println!("{target} is {:?}", answer.status());
    Ok(())
}
