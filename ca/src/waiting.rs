//! A CA whose first X.509 authority is still on its way from the ceremony: the admin socket serves, the TCP door turns
//! everybody away, and health says that it is not ready. Source: docs/decisions/0046.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{authorities::offline::Need, state::State, sweep, tls::Tls};

/// Until our own SVID is tried again, and after accept() failed.
const REST: Duration = Duration::from_secs(1);

/// Waits until the CA has an authority and an SVID of its own; `false` where it is stopped before.
pub(crate) async fn until_signing(listener: &TcpListener, state: &Arc<State>, tls: &Tls) -> bool {
    let mut need = state.authority.need();
    let soft = &state.shutdown.soft;
    while state.authority.x509_id().is_none() {
        tokio::select! {
            () = soft.cancelled() => return false,
            changed = need.wait_for(|need| *need != Need::Now) => {
                if changed.is_err() {
                    return false;
                }
            }
            // Closed at once: whoever comes learns sooner than by a deadline of his own.
            () = turn_away(listener) => {}
        }
    }
    loop {
        match sweep::renew_own_svid(state, tls).await {
            Ok(()) => return true,
            Err(problem) => tracing::error!(%problem, "own SVID; trying again"),
        }
        tokio::select! {
            () = soft.cancelled() => return false,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

async fn turn_away(listener: &TcpListener) {
    match listener.accept().await {
        Ok((stream, _)) => drop(stream),
        Err(problem) => {
            tracing::warn!(%problem, "accept");
            tokio::time::sleep(REST).await;
        }
    }
}
