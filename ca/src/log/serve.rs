//! The log's files over HTTP, for verifiers and witnesses anywhere: checkpoints and tiles, read-only, nothing else.
//!
//! A path is read as the name of a checkpoint or of a tile, and only what it names in our own form is looked for: no text of
//! a client's is ever a path of a file. Everybody may read; what is in it, an event's public part, is for the operator to show
//! or not (docs/RECORD.md). Source: C2SP tlog-tiles.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use chancery_core::log::tile::Tile;
use chancery_daemon::http::{self, Answer};
use tokio_util::sync::CancellationToken;

use super::files::Folder;

/// Connections at once; each may hold a bundle of 256 events.
const MAX_CONNECTIONS: usize = 64;
/// A tile of that width never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

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
    http::serve(addr, MAX_CONNECTIONS, Arc::new(move |path| answer(&dir, path)), stop).await
}

fn answer(dir: &std::path::Path, path: &str) -> Option<Answer> {
    let asked = parse(path)?;
    match read(dir, asked) {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(match asked {
            Asked::Checkpoint(_) => Answer::ok("text/plain; charset=utf-8", bytes),
            Asked::Tile(..) => Answer { cache: FOR_EVER, ..Answer::ok("application/octet-stream", bytes) },
        }),
        Err(problem) => {
            tracing::warn!(%problem, ?asked, "the log's folder");
            Some(Answer::text(500, "reading failed\n"))
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
