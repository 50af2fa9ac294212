//! The only place that reads the wall clock for decisions.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chancery_sdk::time::UnixTime;

/// A clock as an argument: the system's in a daemon, a scripted one in tests.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// Now, in whole seconds.
pub fn now() -> UnixTime {
    SystemTime::now().into()
}

/// The system's clock.
pub fn system() -> Clock {
    Arc::new(now)
}

/// Now, in milliseconds since 1970 (UUIDv7, log lines).
pub fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
