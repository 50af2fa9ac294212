//! The committer: one task, one writer, many facts in one transaction.
//!
//! Callers may vanish at any time; a fact that was handed over is committed or refused by itself.

use chancery_core::event::{Event, Place};
use chancery_sdk::time::UnixTime;
use ring::rand::{SecureRandom, SystemRandom};
use sqlx::{Connection, QueryBuilder};
use tokio::sync::{mpsc, oneshot};

use super::{ANNOUNCE, BEGIN, Context, Db, Pool, Stop, Tx, apply::apply, claims, events, schema};
use crate::store::{Fact, Message, Outcome, Progress, StoreError};

/// Facts in one transaction at most; more would make the first wait for the last.
const BATCH: usize = 256;
/// Rows in one INSERT; 8 values each stay below SQLite's 32,766 parameters.
const ROWS: usize = 2000;
/// Takes the one row every writing transaction begins with: from here on this transaction is alone.
const TAKE: &str = "UPDATE counter SET next = next WHERE id = 0 RETURNING epoch, next";
const ADVANCE: &str = "UPDATE counter SET next = $1, bundle_revision = bundle_revision + $2 WHERE id = 0";

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

/// Checks the schema, tells where the log ends, and starts the task.
pub(in crate::store) async fn start(
    write: Pool,
    read: &Pool,
    server: &str,
    inbox: mpsc::Receiver<Message>,
    progress: Progress,
) -> Result<(), StoreError> {
    schema::check(&write).await?;
    progress.last.send_replace(events::last_number(read).await?);
    let committer = Committer { write, server: server.into(), progress, random: SystemRandom::new(), claim: None };
    tokio::spawn(committer.run(inbox));
    Ok(())
}

struct Committer {
    write: Pool,
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
        let mut messages = Vec::with_capacity(BATCH);
        let mut closers = Vec::new();
        while inbox.recv_many(&mut messages, BATCH).await > 0 {
            let (mut facts, mut answers) = (Vec::new(), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Close(done) => {
                        inbox.close();
                        closers.push(done);
                    }
                    Message::Fact(fact, answer) => {
                        facts.push(fact);
                        answers.push(answer);
                    }
                }
            }
            self.settle(&facts, answers).await;
        }
        self.write.close().await;
        for done in closers {
            let _ = done.send(());
        }
    }

    /// Commits the facts together; where one of them makes the batch fail, each alone.
    async fn settle(&mut self, facts: &[Fact], answers: Vec<Answer>) {
        if facts.is_empty() {
            return;
        }
        match self.commit(facts).await {
            Ok(outcomes) => outcomes.into_iter().zip(answers).for_each(|(outcome, to)| answer(to, Ok(outcome))),
            Err(error) if facts.len() > 1 && error.is_of_one_fact() => {
                for (fact, to) in facts.iter().zip(answers) {
                    let alone = self.commit(std::slice::from_ref(fact)).await;
                    answer(to, alone.and_then(|o| o.into_iter().next().ok_or(StoreError::Closed)));
                }
            }
            Err(error) => answers.into_iter().for_each(|to| answer(to, Err(error.clone()))),
        }
    }

    /// One transaction. Answers one outcome per fact, in order.
    ///
    /// A connection that saw an error is thrown away: SQLite rolls back by itself on some (disk full), which the
    /// driver does not notice, and a broken one is no use.
    async fn commit(&mut self, facts: &[Fact]) -> Result<Vec<Outcome>, StoreError> {
        let mut connection = self.write.acquire().await?;
        let done = self.transact(&mut connection, facts).await;
        if done.is_err() {
            // Closing ends the transaction; that it was broken is known already.
            let _ = connection.close().await;
        }
        for (fact, outcome) in facts.iter().zip(done.iter().flatten()) {
            if let (Fact::TakeClaim(taken), Outcome::Done { .. }) = (fact, outcome) {
                self.claim = Some(taken.nonce.clone());
            }
        }
        done
    }

    /// Counter row, facts, log, counter, commit.
    async fn transact(&self, connection: &mut Tx, facts: &[Fact]) -> Result<Vec<Outcome>, StoreError> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let (epoch, next): (i64, i64) = sqlx::query_as(TAKE).fetch_one(&mut *tx).await?;
        if let Some(nonce) = &self.claim {
            claims::holds(&mut tx, &self.server, nonce).await?;
        }
        let mut context = Context { at: chancery_daemon::clock::now(), bundle_changes: 0, unlogged: false };
        let mut log = Log { epoch, next, events: Vec::new() };
        let mut outcomes = Vec::with_capacity(facts.len());
        for fact in facts {
            let (refusal, events) = match apply(&mut tx, &mut context, fact).await {
                Ok(events) => (None, events),
                Err(Stop::Refused(refusal, events)) => (Some(refusal), events),
                Err(Stop::Failed(error)) => return Err(error),
            };
            outcomes.push(match refusal {
                Some(refusal) => Outcome::Refused(refusal),
                None => Outcome::Done { epoch, number: log.number_of(&events) },
            });
            log.events.extend(events);
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
        let end = self.write_log(&mut tx, log, context.at).await?;
        sqlx::query(ADVANCE).bind(end).bind(context.bundle_changes).execute(&mut *tx).await?;
        if let (true, Some(announce)) = (moved, ANNOUNCE) {
            sqlx::query(announce).execute(&mut *tx).await?;
        }
        tx.commit().await.map_err(commit_error)?;
        self.progress.last.send_replace(end - 1);
        if moved {
            self.progress.moved.send_replace(end - 1);
        }
        Ok(outcomes)
    }

    /// Numbers, seals and writes the events; answers the next free number.
    async fn write_log(&self, tx: &mut Tx, log: Log, at: UnixTime) -> Result<i64, StoreError> {
        let (epoch, mut number) = (log.epoch, log.next);
        let mut rows = Vec::with_capacity(log.events.len());
        let mut clear = Vec::new();
        for event in log.events {
            let (kind, subject) = (event.kind, event.subject.clone());
            let place = Place { epoch, number, at, server: &self.server };
            let sealed = event.seal(place, || self.salt());
            clear.extend(sealed.clear.into_iter().map(|(field, salt, value)| (number, field, salt, value)));
            rows.push((number, kind, subject, sealed.bytes, sealed.hash));
            number += 1;
        }
        for chunk in rows.chunks(ROWS) {
            let head = "INSERT INTO events (epoch, number, at, server, kind, subject, bytes, hash) ";
            let mut insert = QueryBuilder::<Db>::new(head);
            insert.push_values(chunk, |mut row, (number, kind, subject, bytes, hash)| {
                row.push_bind(epoch).push_bind(*number).push_bind(at.0).push_bind(self.server.clone());
                row.push_bind(*kind).push_bind(subject.clone()).push_bind(bytes.clone()).push_bind(hash.to_vec());
            });
            insert.build().execute(&mut *tx).await?;
        }
        for chunk in clear.chunks(ROWS) {
            let mut insert = QueryBuilder::<Db>::new("INSERT INTO event_clear (epoch, number, field, salt, value) ");
            insert.push_values(chunk, |mut row, (number, field, salt, value)| {
                row.push_bind(epoch).push_bind(*number).push_bind(*field).push_bind(salt.to_vec());
                row.push_bind(value.clone());
            });
            insert.build().execute(&mut *tx).await?;
        }
        Ok(number)
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.random.fill(&mut salt).expect("the system's random source answers once it has answered the TLS stack");
        salt
    }
}

impl Log {
    /// The number the first of `events` will have; of the last one before where there is none.
    fn number_of(&self, events: &[Event]) -> i64 {
        let free = self.next + i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        if events.is_empty() { free - 1 } else { free }
    }
}

/// A caller that went away does not need its answer.
fn answer(to: Answer, result: Result<Outcome, StoreError>) {
    let _ = to.send(result);
}

/// A connection lost while committing leaves open what happened; an answer of the database does not.
fn commit_error(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(_) => error.into(),
        other => StoreError::CommitUnknown(other.into()),
    }
}
