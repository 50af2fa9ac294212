use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// Bytes of a call and of its answer.
pub const CALL_BYTES: usize = 32;

/// Answers calls of welcome peers by their own bytes.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let acceptor = TlsAcceptor::from(Arc::clone(&tls));
        tokio::spawn(async move {
            let _ = answer(acceptor, tcp).await;
        });
    }
}

async fn answer(acceptor: TlsAcceptor, tcp: TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = acceptor.accept(tcp).await?;
    let mut call = [0; CALL_BYTES];
    loop {
        stream.read_exact(&mut call).await?;
        stream.write_all(&call).await?;
        stream.flush().await?;
    }
}
