//! Spans of calls reach a collector, below the trace that the caller names.

use std::{convert::Infallible, net::SocketAddr};

use chancery_daemon::telemetry::{self, LogFormat};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that hands on the path and the bytes of each call.
async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Bytes)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    sender.send((path, bytes)).unwrap();
                    // An empty message, then the trailer of a call that went well.
                    let trailers =
                        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
                    let frames =
                        [Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(StreamBody::new(tokio_stream::iter(frames))).unwrap())
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_becomes_a_span_below_its_callers_trace() {
    let (address, mut calls) = collector().await;
    let telemetry =
        telemetry::start("chancery-test", "info", LogFormat::Text, Some(&format!("http://{address}"))).unwrap();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_str(&parent).unwrap())]);
    telemetry::call_span("/chancery.node.v1.Node/Begin", &headers).in_scope(|| tracing::info!("something happened"));
    // What waits is sent before the end.
    tokio::task::spawn_blocking(move || drop(telemetry)).await.unwrap();
    let (path, bytes) = calls.recv().await.unwrap();
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let trace: Vec<u8> = (0..16).map(|n| u8::from_str_radix(&TRACE[2 * n..2 * n + 2], 16).unwrap()).collect();
    for part in [&b"chancery-test"[..], b"/chancery.node.v1.Node/Begin", b"something happened", &trace] {
        assert!(holds(part), "{} is missing in {bytes:?}", String::from_utf8_lossy(part));
    }
}
