//! The committer: one task, one writer, many facts in one transaction.
//!
//! Callers may vanish at any time; a fact that was handed over is committed or refused by itself.

use std::time::Duration;

use chancery_core::event::{Event, Place};
use chancery_sdk::time::UnixTime;
use ring::rand::{SecureRandom, SystemRandom};
use sqlx::{Connection, QueryBuilder, pool::PoolConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    ANNOUNCE, BEGIN, Context, Db, Pool, Stop, TAKE, Tx, Writer, apply::apply, claims, events, issuing, many, schema,
};
use crate::store::{Committed, Fact, Handed, Logged, Message, Outcome, Progress, Refusal, StoreError, StoredEvent};

/// Facts in one transaction, one submission more at most; more would make the first wait for the last.
const BATCH: usize = 256;
/// Rows in one INSERT; 8 values each stay below SQLite's 32,766 parameters.
const ROWS: usize = 2048;
const EVENTS: &str = "INSERT INTO events (number, epoch, at, server, kind, subject, bytes, hash) \
    SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 FROM (";
const CLEAR: &str = "INSERT INTO event_clear (number, epoch, field, salt, value) \
    SELECT v.column1, v.column2, v.column3, v.column4, v.column5 FROM (";
const ADVANCE: &str = "UPDATE counter SET next = $1, bundle_revision = bundle_revision + $2 WHERE id = 0";
/// How long a connection that failed may take to say goodbye: its network may be silent.
const GOODBYE: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<Vec<Outcome>, StoreError>>;
/// Facts handed over together, and who waits for what becomes of them.
type Submission = (Vec<Fact>, Answer);

/// Checks the schema, tells where the log ends, and starts the task.
pub(in crate::store) async fn start(
    write: Writer,
    read: &Pool,
    server: &str,
    inbox: mpsc::Receiver<Message>,
    progress: Progress,
) -> Result<(), StoreError> {
    schema::check(read).await?;
    progress.last.send_replace(events::last_number(read).await?);
    let committer = Committer { write, server: server.into(), progress, random: SystemRandom::new(), claim: None };
    tokio::spawn(committer.run(inbox));
    Ok(())
}

struct Committer {
    write: Writer,
    server: String,
    progress: Progress,
    random: SystemRandom,
    /// The run that this committer writes for, once it claimed its server id.
    claim: Option<String>,
}

/// What a transaction has gathered for the log, written last.
struct Log {
    epoch: i64,
    next: i64,
    events: Vec<Event>,
}

impl Committer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut closers = Vec::new();
        while let Some(first) = inbox.recv().await {
            let (mut submissions, mut oldest, mut count, mut next) = (Vec::new(), None, 0, Some(first));
            while let Some(message) = next.take() {
                match message {
                    Message::Close(done) => {
                        inbox.close();
                        closers.push(done);
                    }
                    Message::Facts(facts, handed, answer) => {
                        oldest.get_or_insert(handed);
                        count += facts.len();
                        submissions.push((facts, answer));
                    }
                }
                if count < BATCH {
                    next = inbox.try_recv().ok();
                }
            }
            if let Some(oldest) = oldest {
                self.settle(submissions, oldest).await;
            }
        }
        self.write.pool().1.close().await;
        for done in closers {
            let _ = done.send(());
        }
    }

    /// Commits the facts together; where one of them makes the batch fail, each alone.
    async fn settle(&mut self, submissions: Vec<Submission>, oldest: Handed) {
        let sizes: Vec<usize> = submissions.iter().map(|(facts, _)| facts.len()).collect();
        let (facts, answers): (Vec<_>, Vec<_>) = submissions.into_iter().unzip();
        let facts: Vec<Fact> = facts.into_iter().flatten().collect();
        let mut outcomes = self.outcomes(&facts, oldest).await.into_iter();
        for (size, to) in sizes.into_iter().zip(answers) {
            // A caller that went away does not need its answer.
            let _ = to.send(outcomes.by_ref().take(size).collect());
        }
    }

    async fn outcomes(&mut self, facts: &[Fact], oldest: Handed) -> Vec<Result<Outcome, StoreError>> {
        if facts.is_empty() {
            return Vec::new();
        }
        match self.commit(facts, oldest).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if facts.len() > 1 && error.is_of_one_fact() => {
                let mut alone = Vec::with_capacity(facts.len());
                for fact in facts {
                    let outcome = self.commit(std::slice::from_ref(fact), oldest).await;
                    alone.push(outcome.and_then(|o| o.into_iter().next().ok_or(StoreError::Closed)));
                }
                alone
            }
            Err(error) => vec![Err(error); facts.len()],
        }
    }

    /// One transaction. Answers one outcome per fact, in order.
    ///
    /// A connection that saw an error is thrown away: SQLite rolls back by itself on some (disk full), which the
    /// driver does not notice, and a broken one is no use.
    async fn commit(&mut self, facts: &[Fact], oldest: Handed) -> Result<Vec<Outcome>, StoreError> {
        let (generation, mut connection) = self.connected().await?;
        let done = self.write.within(self.transact(&mut connection, facts, oldest)).await;
        if let Err(error) = &done {
            // Closing ends the transaction; that it was broken is known already.
            let _ = timeout(GOODBYE, connection.close()).await;
            self.write.failed(generation, error);
            self.progress.recent.forget();
        }
        for (fact, outcome) in facts.iter().zip(done.iter().flatten()) {
            if let (Fact::TakeClaim(taken), Outcome::Done { .. }) = (fact, outcome) {
                self.claim = Some(taken.nonce.clone());
            }
        }
        done
    }

    /// A connection to write by. Whoever waits for one of a server that is given up gets one of the next.
    async fn connected(&self) -> Result<(u64, PoolConnection<Db>), StoreError> {
        loop {
            let (generation, pool) = self.write.pool();
            let acquired = tokio::select! {
                acquired = pool.acquire() => acquired,
                () = self.write.replaced(generation) => continue,
            };
            return acquired.map(|connection| (generation, connection)).map_err(|error| {
                let error = error.into();
                self.write.failed(generation, &error);
                error
            });
        }
    }

    /// Counter row, facts, log, counter, commit.
    async fn transact(&self, connection: &mut Tx, facts: &[Fact], oldest: Handed) -> Result<Vec<Outcome>, StoreError> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let taken: (i64, i64, String, String, i64) = sqlx::query_as(TAKE).fetch_one(&mut *tx).await?;
        let (epoch, next, synchronous_commit, standby_names, now) = taken;
        oldest.clock_is_the_same()?;
        self.write.allows(&synchronous_commit, &standby_names, now)?;
        if let Some(nonce) = &self.claim {
            claims::holds(&mut tx, &self.server, nonce).await?;
        }
        let mut context =
            Context { at: chancery_daemon::clock::now(), number: next, bundle_changes: 0, unlogged: false };
        let mut log = Log { epoch, next, events: Vec::new() };
        let mut outcomes = Vec::with_capacity(facts.len());
        let mut left = facts;
        while let Some(first) = left.first() {
            let together = left.iter().take_while(|fact| fact.is_issuance()).count();
            if together > 1 {
                let (issuances, others) = left.split_at(together);
                for verdict in issuing::apply(&mut tx, context.at, issuances).await? {
                    outcomes.push(log.take(verdict.map(|event| vec![event]).map_err(|refusal| (refusal, Vec::new()))));
                }
                left = others;
                continue;
            }
            context.number = log.free();
            outcomes.push(log.take(match apply(&mut tx, &mut context, first).await {
                Ok(events) => Ok(events),
                Err(Stop::Refused(refusal, events)) => Err((refusal, events)),
                Err(Stop::Failed(error)) => return Err(error),
            }));
            left = &left[1..];
        }
        if log.events.is_empty() {
            // No event, no change; a claim is the exception.
            match context.unlogged {
                true => tx.commit().await.map_err(commit_error)?,
                false => tx.rollback().await?,
            }
            return Ok(outcomes);
        }
        let moved = log.events.iter().any(|event| events::is_registered(event.kind));
        let (committed, written) = self.write_log(&mut tx, log, context.at).await?;
        sqlx::query(ADVANCE).bind(committed.until + 1).bind(context.bundle_changes).execute(&mut *tx).await?;
        if let (true, Some(announce)) = (moved, ANNOUNCE) {
            sqlx::query(announce).bind(&self.server).execute(&mut *tx).await?;
        }
        tx.commit().await.map_err(commit_error)?;
        self.progress.recent.push(written);
        self.progress.committed(&committed, moved);
        Ok(outcomes)
    }

    /// Numbers, seals and writes the events; answers what they come to.
    async fn write_log(
        &self,
        tx: &mut Tx,
        log: Log,
        at: UnixTime,
    ) -> Result<(Committed, Vec<StoredEvent>), StoreError> {
        let (epoch, mut number) = (log.epoch, log.next);
        let mut committed = Committed { epoch, first: number, until: number, changes: Vec::new() };
        let mut rows = Vec::with_capacity(many::places(log.events.len()));
        let (mut clear, mut written) = (Vec::new(), Vec::with_capacity(log.events.len()));
        for event in log.events {
            let (kind, subject) = (event.kind, event.subject.clone());
            let place = Place { epoch, number, at, server: &self.server };
            let sealed = event.seal(place, || self.salt());
            clear.extend(sealed.clear.into_iter().map(|(f, salt, value)| (Some(number), f, salt.to_vec(), value)));
            if events::is_followed(kind) {
                let (bytes, hash) = (sealed.bytes.clone(), sealed.hash);
                committed.changes.push(Logged { number, kind: kind.into(), subject: subject.clone(), bytes, hash });
            }
            let (bytes, hash) = (sealed.bytes.clone(), sealed.hash);
            written.push(StoredEvent { epoch, number, bytes, hash });
            rows.push((Some(number), kind, subject, sealed.bytes, sealed.hash.to_vec()));
            (committed.until, number) = (number, number + 1);
        }
        while !rows.is_empty() {
            let chunk = rows.drain(..rows.len().min(ROWS)).collect();
            let mut insert = QueryBuilder::<Db>::new(EVENTS);
            insert.push_values(many::filled(chunk), |mut row, (number, kind, subject, bytes, hash)| {
                row.push_bind(number).push_bind(epoch).push_bind(at.0).push_bind(self.server.clone());
                row.push_bind(kind).push_bind(subject).push_bind(bytes).push_bind(hash);
            });
            insert.push(") AS v WHERE v.column1 IS NOT NULL").build().execute(&mut *tx).await?;
        }
        while !clear.is_empty() {
            let chunk = clear.drain(..clear.len().min(ROWS)).collect();
            let mut insert = QueryBuilder::<Db>::new(CLEAR);
            insert.push_values(many::filled(chunk), |mut row, (number, field, salt, value)| {
                row.push_bind(number).push_bind(epoch).push_bind(field).push_bind(salt).push_bind(value);
            });
            insert.push(") AS v WHERE v.column1 IS NOT NULL").build().execute(&mut *tx).await?;
        }
        Ok((committed, written))
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.random.fill(&mut salt).expect("the system's random source answers once it has answered the TLS stack");
        salt
    }
}

impl Log {
    /// Takes a fact's events, or those that are left of a refused one; its outcome.
    fn take(&mut self, done: Result<Vec<Event>, (Refusal, Vec<Event>)>) -> Outcome {
        let (outcome, events) = match done {
            Ok(events) => (Outcome::Done { epoch: self.epoch, number: self.number_of(&events) }, events),
            Err((refusal, events)) => (Outcome::Refused(refusal), events),
        };
        self.events.extend(events);
        outcome
    }

    /// The number the first of `events` will have; of the last one before where there is none.
    fn number_of(&self, events: &[Event]) -> i64 {
        if events.is_empty() { self.free() - 1 } else { self.free() }
    }

    /// The number that the next event will have.
    fn free(&self) -> i64 {
        self.next + i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }
}

/// A connection lost while committing leaves open what happened; an answer of the database does not.
fn commit_error(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(_) => error.into(),
        other => StoreError::CommitUnknown(other.into()),
    }
}
