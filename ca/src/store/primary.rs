//! The primary among the servers of one PostgreSQL: found, held, checked, and found again.
//!
//! A connection is used only once it is known to reach a server that takes writes, whose commits are what this server
//! promises, and that has what this server has seen. A network may go silent without a word: every read has a
//! deadline, and after it the connections are given up, not waited for.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_daemon::clock;
use futures_util::future::join_all;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    LogEnd, Seen, StoreError,
    durable::{Durability, Require, Row, SETTINGS, Settings},
};

/// The committer works through one batch at a time; more writers on the counter row make all of them slower.
const WRITERS: u32 = 1;
/// Readers at once.
const READERS: u32 = 8;
/// How long a caller waits for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one server may take to answer whether it is the primary.
const LOOK: Duration = Duration::from_secs(3);
/// How long a read may take; less than a view may be old.
const READ: Duration = Duration::from_secs(4);
/// Between two looks for a primary while there is none.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at the primary, whatever happens.
const PERIOD: Duration = Duration::from_secs(5);

/// What is known of the database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// A server lacks what this one has seen: a standby that was behind, a restored backup.
    Behind(String),
    /// It serves, and this is what a commit survives.
    Fit(Durability),
    /// No server can be used, and why.
    Unfit(String),
}

/// See the module.
pub(super) struct Primary {
    hosts: Vec<PgConnectOptions>,
    checks: Arc<Checks>,
    line: ArcSwap<Line>,
    generation: watch::Sender<u64>,
    health: watch::Sender<Health>,
    suspect: Notify,
}

/// Connections to the server that is the primary as far as we know.
pub(super) struct Line {
    pub generation: u64,
    pub options: PgConnectOptions,
    pub reads: PgPool,
    pub writes: PgPool,
}

/// What every connection is asked before its first use.
struct Checks {
    require: Require,
    // Guards the newest event known to be committed; held for a look or a step forward.
    seen: Mutex<Option<LogEnd>>,
    /// Number of the newest event this server committed.
    committed: watch::Receiver<i64>,
    // Guards what the operator was last told; held for a comparison.
    told: Mutex<Option<&'static str>>,
}

impl Primary {
    /// Finds the primary among the servers that `url` names (`host1:5432,host2:5432` where there are several). It has
    /// the event that is `known`.
    ///
    /// # Errors
    /// [`StoreError`]: why none of them can be used.
    pub(super) async fn find(
        url: &str,
        require: Require,
        known: Option<&Seen>,
        committed: watch::Receiver<i64>,
    ) -> Result<Arc<Self>, StoreError> {
        let seen = Mutex::new(known.and_then(|seen| {
            Some(LogEnd { epoch: seen.epoch, number: seen.number, hash: hex::decode(&seen.hash).ok()? })
        }));
        let checks = Arc::new(Checks { require, seen, committed, told: Mutex::default() });
        let hosts = hosts(url)?;
        let (options, durability) = choose(&hosts, &checks).await?;
        let line = ArcSwap::from_pointee(Line::to(0, options, &checks));
        let (generation, health) = (watch::Sender::new(0), watch::Sender::new(Health::Fit(durability)));
        Ok(Arc::new(Self { hosts, checks, line, generation, health, suspect: Notify::new() }))
    }

    /// The connections to use now.
    pub(super) fn line(&self) -> Arc<Line> {
        self.line.load_full()
    }

    /// Changes when connections are replaced.
    pub(super) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Waits until the connections of this generation are given up.
    pub(super) async fn replaced(&self, generation: u64) {
        // The sender is ours: it does not go away meanwhile.
        let _ = self.generation.subscribe().wait_for(|now| *now != generation).await;
    }

    /// What is known of the database.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// What a commit must survive.
    pub(super) fn require(&self) -> Require {
        self.checks.require
    }

    /// A read with its deadline.
    ///
    /// # Errors
    /// Its own; [`StoreError::Away`] where nothing was answered in time.
    pub(super) async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let generation = self.line.load().generation;
        let done = tokio::select! {
            done = read => done,
            () = tokio::time::sleep(READ) => Err(timed_out().into()),
            // Its connections were given up under it.
            () = self.replaced(generation) => Err(timed_out().into()),
        };
        match done {
            Err(error) => {
                self.failed(generation, &error);
                Err(error)
            }
            Ok(value) => Ok(value),
        }
    }

    /// Where an error speaks of the server and not of the statement, a primary is looked for.
    pub(super) fn failed(&self, generation: u64, error: &StoreError) {
        if error.is_of_the_server() && self.line.load().generation == generation {
            self.suspect.notify_one();
        }
    }

    /// Looks after the connections until nobody wants the store.
    pub(super) async fn keep(self: Arc<Self>, closed: impl Future<Output = ()>) {
        tokio::pin!(closed);
        loop {
            let suspected = tokio::select! {
                () = &mut closed => return,
                () = self.suspect.notified() => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            if !suspected && self.look().await {
                continue;
            }
            tokio::select! {
                () = &mut closed => return,
                () = self.replace() => {}
            }
        }
    }

    /// Looks at the primary by a connection in use; whether all is well.
    async fn look(&self) -> bool {
        let reads = self.line().reads.clone();
        let looked = async {
            let mut connection = reads.acquire().await?;
            self.checks.ask(&mut connection).await
        };
        match timeout(READ, looked).await {
            Ok(Ok(durability)) => {
                self.told(Health::Fit(durability));
                true
            }
            Ok(Err(StoreError::Unfit(why))) => {
                self.told(Health::Unfit(why));
                // It is what it is: another one may be better, else this one is looked at again.
                false
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Looks for a primary until there is one, and replaces all connections.
    async fn replace(&self) {
        loop {
            match choose(&self.hosts, &self.checks).await {
                Ok((options, durability)) => {
                    let generation = self.line.load().generation + 1;
                    tracing::info!(database = %name(&options), generation, "connections to the database made anew");
                    let old = self.line.swap(Arc::new(Line::to(generation, options, &self.checks)));
                    self.generation.send_replace(generation);
                    self.told(Health::Fit(durability));
                    // Whoever still waits for one of the old connections is told; it may take as long as it likes.
                    tokio::spawn(async move { tokio::join!(old.reads.close(), old.writes.close()) });
                    return;
                }
                Err(StoreError::Behind(why)) => self.told(Health::Behind(why)),
                Err(error) => self.told(Health::Unfit(crate::run::chain(&error))),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn told(&self, health: Health) {
        self.health.send_if_modified(|known| {
            if *known == health {
                return false;
            }
            match &health {
                Health::Fit(durability) => tracing::info!(?durability, "database can be used"),
                Health::Behind(why) | Health::Unfit(why) => tracing::error!(%why, "database cannot be used"),
            }
            *known = health;
            true
        });
    }
}

impl Line {
    fn to(generation: u64, options: PgConnectOptions, checks: &Arc<Checks>) -> Self {
        let pool = |most| {
            let checks = Arc::clone(checks);
            let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(CONNECT);
            let pool = pool.after_connect(move |connection, _| {
                let checks = Arc::clone(&checks);
                Box::pin(async move {
                    let asked = checks.ask(connection).await;
                    asked.map(drop).map_err(|unfit| sqlx::Error::Io(std::io::Error::other(unfit.to_string())))
                })
            });
            pool.connect_lazy_with(options.clone())
        };
        Self { generation, reads: pool(READERS), writes: pool(WRITERS), options }
    }
}

impl Checks {
    /// Whether the server behind this connection can be used.
    ///
    /// # Errors
    /// [`StoreError::Unfit`], [`StoreError::Behind`], or that it cannot be asked.
    async fn ask(&self, connection: &mut PgConnection) -> Result<Durability, StoreError> {
        let committed = *self.committed.borrow();
        let row: Row = sqlx::query_as(SETTINGS).fetch_one(&mut *connection).await?;
        let settings = Settings::from(row);
        let durability = settings.judge(self.require, clock::now()).map_err(StoreError::Unfit)?;
        self.warn(settings.weakness());
        let end = log_end(connection).await?;
        let Some(end) = end else { return Ok(durability) };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(seen) = seen.filter(|seen| seen.epoch >= end.epoch) {
            let has = seen.epoch == end.epoch && hash(connection, &seen).await?.as_ref() == Some(&seen.hash);
            if !has || end.number < committed {
                let newest = seen.number.max(committed);
                return Err(StoreError::Behind(format!(
                    "its log of epoch {} ends at {}, this server has seen event {newest} of epoch {} there",
                    end.epoch, end.number, seen.epoch
                )));
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| (seen.epoch, seen.number) < (end.epoch, end.number)) {
            *seen = Some(end);
        }
        Ok(durability)
    }
}

impl Checks {
    /// Once for each weakness.
    fn warn(&self, weakness: Option<&'static str>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != weakness {
            *told = weakness;
            if let Some(weakness) = weakness {
                tracing::warn!(weakness, "database");
            }
        }
    }
}

/// The first of the servers that can be used.
///
/// # Errors
/// [`StoreError::Behind`] where one lacks what was seen and no other one can be used; else why not, each.
async fn choose(hosts: &[PgConnectOptions], checks: &Checks) -> Result<(PgConnectOptions, Durability), StoreError> {
    let asked = join_all(hosts.iter().map(|options| async move {
        let ask = async {
            let mut connection = options.connect().await?;
            let asked = checks.ask(&mut connection).await;
            let _ = connection.close().await;
            asked
        };
        timeout(LOOK, ask).await.unwrap_or_else(|_| Err(timed_out().into()))
    }));
    let mut worst: Option<StoreError> = None;
    for (options, asked) in hosts.iter().zip(asked.await) {
        let named = |why: String| format!("{} {why}", name(options));
        let error = match asked {
            Ok(durability) => return Ok((options.clone(), durability)),
            Err(StoreError::Behind(why)) => StoreError::Behind(named(format!("lacks records: {why}"))),
            Err(StoreError::Unfit(why)) => StoreError::Unfit(named(why)),
            Err(other) => other,
        };
        // What is there and will not do tells more than what is away.
        worst = Some(match (worst, error) {
            (None, error) => error,
            (Some(StoreError::Unfit(one)), StoreError::Unfit(two)) => StoreError::Unfit(format!("{one}; {two}")),
            (Some(behind @ StoreError::Behind(_)), _) => behind,
            (Some(_), told @ (StoreError::Behind(_) | StoreError::Unfit(_))) => told,
            (Some(first), _) => first,
        });
    }
    Err(worst.unwrap_or(StoreError::Closed))
}

/// Where the log ends; `None` before the first migration.
async fn log_end(connection: &mut PgConnection) -> Result<Option<LogEnd>, StoreError> {
    const THERE: &str = "SELECT to_regclass('counter') IS NOT NULL AND to_regclass('events') IS NOT NULL";
    const END: &str = "SELECT c.epoch, c.next - 1, e.hash FROM counter c \
        LEFT JOIN events e ON e.epoch = c.epoch AND e.number = c.next - 1 WHERE c.id = 0";
    let there: bool = sqlx::query_scalar(THERE).fetch_one(&mut *connection).await?;
    if !there {
        return Ok(None);
    }
    let row: Option<(i64, i64, Option<Vec<u8>>)> = sqlx::query_as(END).fetch_optional(&mut *connection).await?;
    Ok(row.map(|(epoch, number, hash)| LogEnd { epoch, number, hash: hash.unwrap_or_default() }))
}

/// The hash that the event of `seen` has here.
async fn hash(connection: &mut PgConnection, seen: &LogEnd) -> Result<Option<Vec<u8>>, StoreError> {
    const HASH: &str = "SELECT hash FROM events WHERE epoch = $1 AND number = $2";
    if seen.number < 0 {
        return Ok(Some(Vec::new()));
    }
    Ok(sqlx::query_scalar(HASH).bind(seen.epoch).bind(seen.number).fetch_optional(&mut *connection).await?)
}

/// Each of the servers of a URL whose host part is a list.
fn hosts(url: &str) -> Result<Vec<PgConnectOptions>, StoreError> {
    // Milliseconds. A session that hangs must not keep the counter row from all servers: a server that is cut off in the
    // middle of a transaction loses it before the others lose their patience.
    const LIMITS: [(&str, &str); 3] =
        [("lock_timeout", "5000"), ("statement_timeout", "10000"), ("idle_in_transaction_session_timeout", "3000")];
    let urls = each(url);
    let parsed = urls.iter().map(|url| PgConnectOptions::from_str(url));
    parsed.map(|options| Ok(options?.application_name("chancery-ca").options(LIMITS))).collect()
}

/// `scheme://user@a:1,b:2/db` -> the same with `a:1`, with `b:2`.
fn each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.into()] };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect()
}

/// For people; a URL may hold a password.
fn name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(path) => path.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_hosts_is_one_url_each() {
        let list = "postgres://u:p%2C@db1:5432,db2,[::1]:7/chancery?sslmode=require";
        let expected =
            ["db1:5432", "db2", "[::1]:7"].map(|h| format!("postgres://u:p%2C@{h}/chancery?sslmode=require"));
        assert_eq!(each(list), expected);
        for one in ["postgresql://x@localhost/db?host=/run/a,b", "postgres://h", "postgres:///d?host=/s"] {
            assert_eq!(each(one), [one]);
        }
        let named: Vec<_> = hosts("postgres://u@db1:6432,db2/x").unwrap().iter().map(name).collect();
        assert_eq!(named, ["db1:6432", "db2:5432"]);
    }
}
