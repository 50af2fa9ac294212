//! HTTP between two identities, with axum and hyper, over mutual TLS.
//!
//! `SPIFFE_ENDPOINT_SOCKET` says where the Workload API is. Three ways to run it:
//! ```text
//! cargo run --example axum                                   # server and client in one process
//! cargo run --example axum -- serve 127.0.0.1:8443           # welcomes its own trust domain; Ctrl-C stops it
//! cargo run --example axum -- call https://127.0.0.1:8443/whoami
//! ```

use axum::{Extension, Router, body::Body, routing::get};
use chancery_sdk::{
    Source,
    peer::{self, PeerIdentity},
    tls::{Allow, H2, HTTP1},
};
use http::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let source = Source::builder().connect().await?;
    println!("I am {}", source.svid()?.id());
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo(source).await,
        ["call", target] => call(&source, target.parse()?).await,
        ["serve", address] => {
            let stop = CancellationToken::new();
            let serving = serve(source, TcpListener::bind(address).await?, stop.clone());
            tokio::spawn(async move {
                let _ = tokio::signal::ctrl_c().await;
                stop.cancel();
            });
            serving.await
        }
        _ => Err("usage: axum [serve ADDRESS | call https://ADDRESS/whoami]".into()),
    }
}

/// Serves on a port of the kernel's choice and calls itself.
pub async fn demo(source: Source) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("https://{}/whoami", listener.local_addr()?).parse()?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(source.clone(), listener, stop.clone()));
    let outcome = call(&source, target).await;
    stop.cancel();
    serving.await??;
    outcome
}

/// Welcomes every member of our own trust domain, until `stop`.
pub async fn serve(source: Source, listener: TcpListener, stop: CancellationToken) -> Outcome {
    let own = source.svid()?.id().trust_domain();
    let incoming = source.acceptor(Allow::trust_domain(&own), &[H2, HTTP1])?.incoming(listener);
    let app = Router::new().route("/whoami", get(whoami));
    peer::serve(incoming, app, stop).await;
    Ok(())
}

async fn whoami(Extension(peer): Extension<PeerIdentity>) -> String {
    format!("you are {}, until {}", peer.id(), peer.not_after())
}

/// Gets `target`; the server must be of our own trust domain.
pub async fn call(source: &Source, target: Uri) -> Outcome {
    let own = source.svid()?.id().trust_domain();
    let connection = source.connector(Allow::trust_domain(&own), &[H2])?.dial(&target).await?;
    println!("connected to {}", connection.peer().id());
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(connection)).await?;
    tokio::spawn(driver);
    let response = sender.send_request(Request::get(target).body(Body::empty())?).await?;
    let body = axum::body::to_bytes(Body::new(response.into_body()), 4096).await?;
    println!("{}", String::from_utf8_lossy(&body));
    Ok(())
}
