use std::io::ErrorKind;

use chancery_sdk::peer::{Acceptor, GuardedStream};
use chancery_tests::demo::protocol::{End, Said};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{hung_up, say};

/// Bytes of a call and of its answer.
pub const CALL_BYTES: usize = 32;

/// Answers calls of welcome peers by their own bytes.
pub async fn serve(listener: TcpListener, acceptor: Acceptor) {
    let mut incoming = acceptor.incoming(listener);
    while let Some(mut stream) = incoming.accept().await {
        tokio::spawn(async move {
            let Err(problem) = answer(&mut stream).await else { return };
            if problem.kind() == ErrorKind::ConnectionAborted {
                say(&Said::HungUp(hung_up(stream.peer().id().as_str(), End::Called)));
            }
        });
    }
}

async fn answer(stream: &mut GuardedStream<TcpStream>) -> std::io::Result<()> {
    let mut call = [0; CALL_BYTES];
    loop {
        stream.read_exact(&mut call).await?;
        stream.write_all(&call).await?;
        stream.flush().await?;
    }
}
