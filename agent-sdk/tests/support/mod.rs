//! What the client's tests share: an authority, a clock and a fake Workload API.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod api;
pub mod pki;
pub mod token;

use std::{sync::Arc, time::SystemTime};

use chancery_sdk::{time::UnixTime, tls::Clock};
use tokio::time::Instant;

/// The wall clock, in whole seconds.
pub fn now() -> UnixTime {
    SystemTime::now().into()
}

/// A wall clock that moves with tokio's, so that paused time moves certificates too.
pub fn tokio_clock() -> Clock {
    let (base, start) = (now(), Instant::now());
    Arc::new(move || base.plus(i64::try_from(start.elapsed().as_secs()).unwrap()))
}
