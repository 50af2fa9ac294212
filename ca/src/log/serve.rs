//! The log's files over HTTP, for verifiers and witnesses anywhere: checkpoints and tiles, read-only, nothing else.
//!
//! A path is read as the name of a checkpoint or of a tile, and only what it names in our own form is looked for: no text of
//! a client's is ever a path of a file. Everybody may read; what is in it, an event's public part, is for the operator to show
//! or not (docs/RECORD.md). Source: C2SP tlog-tiles.

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use chancery_core::log::tile::Tile;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::files::Folder;

/// Connections at once; each may hold a bundle of 256 events.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for its request.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may live.
const CONNECTION: Duration = Duration::from_secs(60);
/// A checkpoint is another one a second later.
const FRESH: HeaderValue = HeaderValue::from_static("no-cache");
/// A tile of that width never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// Something of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Checkpoint(i64),
    Tile(i64, Tile),
}

/// Serves the log's folder until `stop`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(addr: SocketAddr, dir: PathBuf, stop: CancellationToken) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let (dir, slots) = (Arc::new(dir), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    tokio::spawn(async move {
        loop {
            let accepted = async {
                // The semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await.ok();
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! { () = stop.cancelled() => return, a = accepted => a };
            let Ok((tcp, _)) = accepted else { continue };
            let (dir, stop) = (Arc::clone(&dir), stop.clone());
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let dir = Arc::clone(&dir);
                    async move { Ok::<_, Infallible>(respond(&request, dir).await) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(REQUEST);
                let connection = http.serve_connection(TokioIo::new(tcp), answer);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(CONNECTION) => {}
                    _ = connection => {}
                }
                drop(slot);
            });
        }
    });
    Ok(bound)
}

async fn respond(request: &Request<Incoming>, dir: Arc<PathBuf>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    let Some(asked) = parse(request.uri().path()) else { return text(StatusCode::NOT_FOUND, "not found\n") };
    let read = tokio::task::spawn_blocking(move || read(&dir, asked)).await;
    let Ok(read) = read else { return text(StatusCode::INTERNAL_SERVER_ERROR, "reading failed\n") };
    match read {
        Ok(Some(bytes)) => {
            let (kind, cache) = match asked {
                Asked::Checkpoint(_) => ("text/plain; charset=utf-8", FRESH),
                Asked::Tile(..) => ("application/octet-stream", FOR_EVER),
            };
            answer(StatusCode::OK, kind, cache, bytes)
        }
        Ok(None) => text(StatusCode::NOT_FOUND, "not found\n"),
        Err(problem) => {
            tracing::warn!(%problem, ?asked, "the log's folder");
            text(StatusCode::INTERNAL_SERVER_ERROR, "reading failed\n")
        }
    }
}

/// `/<epoch>/checkpoint` or `/<epoch>/tile/...`, in the one form in which each is written.
fn parse(path: &str) -> Option<Asked> {
    let (epoch, rest) = path.strip_prefix('/')?.split_once('/')?;
    let number: i64 = epoch.parse().ok().filter(|number| *number >= 0)?;
    if number.to_string() != epoch {
        return None;
    }
    match rest {
        "checkpoint" => Some(Asked::Checkpoint(number)),
        tile => Tile::parse(tile).map(|tile| Asked::Tile(number, tile)),
    }
}

fn read(dir: &std::path::Path, asked: Asked) -> io::Result<Option<Vec<u8>>> {
    let found = match asked {
        Asked::Checkpoint(epoch) => return Folder::new(dir, epoch).checkpoint(),
        Asked::Tile(epoch, tile) => Folder::new(dir, epoch).read(tile),
    };
    match found {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", NEVER, body.into())
}

fn answer(status: StatusCode, kind: &'static str, cache: HeaderValue, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use chancery_core::log::tile::Row;

    use super::*;

    async fn ask(addr: SocketAddr, request: &str) -> String {
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A folder with a full tile and a checkpoint, and beside it what nobody may read.
    async fn served() -> (tempfile::TempDir, SocketAddr, CancellationToken) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::create_dir_all(&log).unwrap();
        std::fs::write(dir.path().join("secret"), "SECRET").unwrap();
        std::fs::write(log.join("secret"), "SECRET").unwrap();
        let folder = Folder::new(&log, 0);
        folder.show(b"example.org/0\n256\n").unwrap();
        let full = Tile { row: Row::Hashes(0), index: 0, width: 256 };
        folder.write(&[(full, vec![7; 8192])]).unwrap();
        std::fs::write(folder.path().join("secret"), "SECRET").unwrap();
        let stop = CancellationToken::new();
        let addr = serve("127.0.0.1:0".parse().unwrap(), log, stop.clone()).await.unwrap();
        (dir, addr, stop)
    }

    #[tokio::test]
    async fn checkpoints_are_asked_for_again_and_tiles_are_kept_for_ever() {
        let (_dir, addr, _stop) = served().await;
        let checkpoint = ask(addr, "GET /0/checkpoint").await;
        assert!(checkpoint.starts_with("HTTP/1.1 200") && checkpoint.ends_with("example.org/0\n256\n"), "{checkpoint}");
        assert!(checkpoint.contains("cache-control: no-cache") && checkpoint.contains("text/plain"), "{checkpoint}");
        let tile = ask(addr, "GET /0/tile/0/000").await;
        assert!(tile.contains("immutable") && tile.contains("application/octet-stream"), "{tile}");
        assert!(tile.contains("content-length: 8192"), "{tile}");
        // A part, which the full tile has replaced.
        assert!(ask(addr, "GET /0/tile/0/000.p/3").await.contains("content-length: 96"));
        let head = ask(addr, "HEAD /0/checkpoint").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn nothing_but_checkpoints_and_tiles_is_read_however_it_is_asked_for() {
        let (_dir, addr, _stop) = served().await;
        for path in [
            "/",
            "/secret",
            "/0/secret",
            "/0/",
            "/0",
            "/0/../secret",
            "/0/../../secret",
            "/../secret",
            "//secret",
            "/0/tile/../secret",
            "/0/tile/0/../../secret",
            "/0/tile/0/..%2f..%2fsecret",
            "/0/%2e%2e/secret",
            "/0/tile/0/000/../../../secret",
            "/0//checkpoint",
            "/00/checkpoint",
            "/+0/checkpoint",
            "/-1/checkpoint",
            "/0/checkpoint/",
            "/0/tile/0/0",
            "/0/tile/0/000.p/0",
            "/0/tile/0/000.p/256",
            "/0/tile/9/000",
            "/0/tile/entries/x000/000",
            "/1/checkpoint",
            "/0/tile/0/001",
            "/9999999999999999999/checkpoint",
        ] {
            let answer = ask(addr, &format!("GET {path}")).await;
            assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("SECRET"), "{path}: {answer}");
        }
        for method in ["POST", "PUT", "DELETE"] {
            assert!(ask(addr, &format!("{method} /0/checkpoint")).await.starts_with("HTTP/1.1 405"), "{method}");
        }
    }

    #[tokio::test]
    async fn it_ends_with_the_server() {
        let (_dir, addr, stop) = served().await;
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        ask(addr, "GET /0/checkpoint").await;
        stop.cancel();
        let mut rest = Vec::new();
        // Whether it was accepted yet or not: nothing comes, and it ends.
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}
