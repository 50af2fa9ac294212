//! A store on a fresh database, and the checker of its log.

use chancery_ca::store::{
    Authority, AuthorityId, AuthorityKind, Fact, KeyStep, Outcome, PlanKey, Refusal, Store, StoredEvent,
};
use chancery_core::event::leaf_hash;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, raw_sql};
use tempfile::TempDir;

use crate::{postgres, sample};

/// Runs each test once on SQLite and once on PostgreSQL.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::bench::Bench::sqlite().await).await })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::bench::Bench::postgres().await).await })*
        }
    };
}
pub(crate) use on_both;

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = folder.path().join("chancery.sqlite").to_str().unwrap().to_string();
        Self::at(url, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::at(postgres::database().await, None).await
    }

    /// Migrated, with one active authority of each kind: `sample::X509` and `sample::JWT`.
    async fn at(url: String, folder: Option<TempDir>) -> Self {
        Store::migrate(&url).await.unwrap();
        let store = Store::open(&url, "test").await.unwrap();
        let bench = Self { store, url, _folder: folder };
        for (id, kind) in [(sample::X509, AuthorityKind::X509), (sample::JWT, AuthorityKind::Jwt)] {
            bench.prepare(Authority { kind, ..sample::authority(id) }).await;
            bench.done(Fact::ActivateAuthority(AuthorityId { id: id.into() })).await;
        }
        bench
    }

    /// A key that was generated, for an authority that is not published yet.
    pub(crate) async fn generate(&self, id: &str, kind: AuthorityKind, server: &str) {
        self.done(Fact::PlanKey(PlanKey { server: server.into(), ..sample::plan(id, kind) })).await;
        self.done(Fact::MoveKey(sample::step(id, 0, KeyStep::Generate))).await;
        self.done(Fact::MoveKey(sample::step(id, 1, sample::recorded(id)))).await;
    }

    /// Publishes an authority, its key made before.
    pub(crate) async fn prepare(&self, authority: Authority) {
        self.generate(&authority.id, authority.kind, &authority.server).await;
        self.done(Fact::PrepareAuthority(authority)).await;
    }

    /// Commits a fact that must succeed; answers the number of its first event.
    pub(crate) async fn done(&self, fact: Fact) -> i64 {
        match self.store.commit(fact.clone()).await.unwrap() {
            Outcome::Done { number, .. } => number,
            Outcome::Refused(refusal) => panic!("{refusal}: {fact:?}"),
        }
    }

    /// Commits a fact that is never refused and may change nothing.
    pub(crate) async fn done_or_nothing(&self, fact: Fact) {
        let outcome = self.store.commit(fact.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Done { .. }), "{fact:?}");
    }

    /// Commits a fact that must be refused, and checks that it left no event.
    pub(crate) async fn refused(&self, fact: Fact) -> Refusal {
        let before = self.events().await.len();
        match self.store.commit(fact.clone()).await.unwrap() {
            Outcome::Done { .. } => panic!("not refused: {fact:?}"),
            Outcome::Refused(refusal) => {
                assert_eq!(self.events().await.len(), before, "a refused fact left an event: {fact:?}");
                refusal
            }
        }
    }

    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        self.store.events(None, u32::MAX).await.unwrap()
    }

    /// (kind, subject) of the events from `number` on.
    pub(crate) async fn kinds_from(&self, number: i64) -> Vec<(String, String)> {
        let events = self.store.events(Some(number - 1), u32::MAX).await.unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_string();
        events.iter().map(json).map(|v| (text(&v["kind"]), text(&v["subject"]))).collect()
    }

    /// Runs SQL behind the store's back.
    pub(crate) async fn sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_string());
        if self.url.starts_with("postgres") {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            raw_sql(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = SqliteConnection::connect(&format!("sqlite:{}", self.url)).await.unwrap();
            raw_sql(sql).execute(&mut connection).await.unwrap();
        }
    }
}

impl Drop for Bench {
    /// Every test ends with a log that holds.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let events = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.events()));
        check(&events).unwrap();
    }
}

pub(crate) fn json(event: &StoredEvent) -> Value {
    serde_json::from_slice(&event.bytes).unwrap()
}

/// Numbers are gap-free from 0, equal to the one inside the bytes, and the hash is the Merkle leaf of the bytes.
pub(crate) fn check(events: &[StoredEvent]) -> Result<(), String> {
    for (place, event) in (0i64..).zip(events) {
        if event.number != place {
            return Err(format!("place {place} holds number {}", event.number));
        }
        if json(event)["number"] != place || json(event)["epoch"] != event.epoch {
            return Err(format!("bytes of {place} say another number or epoch"));
        }
        if event.hash != leaf_hash(&event.bytes) {
            return Err(format!("hash of {place} is not of its bytes"));
        }
    }
    Ok(())
}
