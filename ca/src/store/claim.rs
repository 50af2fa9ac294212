//! Who may write under a server id: see `crate::claim`.

/// A run's claim, as the database has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerClaim {
    /// The run.
    pub nonce: String,
    /// Grows while it lives.
    pub beat: i64,
}

/// A run claims its server id; from then on this store commits only while the claim holds. Refused: `Stale`.
#[derive(Clone, Debug)]
pub struct TakeClaim {
    /// The server id.
    pub server: String,
    /// The run.
    pub nonce: String,
    /// The dead run's claim that it replaces; `None`: there must be none.
    pub over: Option<ServerClaim>,
}

/// The run lives. Refused: `Stale` (another beat).
#[derive(Clone, Debug)]
pub struct BeatClaim {
    /// The server id.
    pub server: String,
    /// The run.
    pub nonce: String,
    /// The beat before.
    pub beat: i64,
}

/// The run ends; nothing is committed by this store any more. Refused: `Stale`.
#[derive(Clone, Debug)]
pub struct ReleaseClaim {
    /// The server id.
    pub server: String,
    /// The run.
    pub nonce: String,
}
