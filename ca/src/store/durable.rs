//! What a PostgreSQL says of itself, and whether a commit there is what this server promises by it. Pure.

use chancery_sdk::time::UnixTime;
use serde::Deserialize;

/// What a commit must survive.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// A crash of the database's machine, its disk left whole.
    #[default]
    Durable,
    /// The loss of that machine: a standby has it too before anybody is answered.
    Replicated,
}

/// What a commit does survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// A crash of the machine, on its disk.
    Machine,
    /// The loss of the machine: a synchronous standby has it.
    Standby,
}

/// Settings of a session, and who follows the server.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// It follows another server, and takes no writes.
    pub in_recovery: bool,
    /// `default_transaction_read_only`.
    pub read_only: bool,
    pub fsync: bool,
    pub full_page_writes: bool,
    pub synchronous_commit: String,
    pub synchronous_standby_names: String,
    /// Standbys that a commit waits for.
    pub synchronous: i64,
    /// Standbys whose state this user may not see.
    pub hidden: i64,
    /// Its clock, seconds since 1970.
    pub now: i64,
}

/// Most that the clocks of a server and of its database may differ, in seconds: more than one with a time service
/// ever does, less than the life of anything that is issued for long.
const SKEW_SECS: u64 = 60;

/// Of the session that asks. Without the role pg_monitor the states of standbys are NULL.
pub(super) const SETTINGS: &str = "SELECT pg_is_in_recovery(), \
    current_setting('default_transaction_read_only')::boolean, current_setting('fsync')::boolean, \
    current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'), \
    current_setting('synchronous_standby_names'), \
    (SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')), \
    (SELECT COUNT(*) FROM pg_stat_replication WHERE state IS NULL), extract(epoch FROM clock_timestamp())::bigint";

/// [`SETTINGS`] as it is answered.
pub(super) type Row = (bool, bool, bool, bool, String, String, i64, i64, i64);

impl From<Row> for Settings {
    fn from(row: Row) -> Self {
        let (in_recovery, read_only, fsync, full_page_writes, commit, names, synchronous, hidden, now) = row;
        Self {
            in_recovery,
            read_only,
            fsync,
            full_page_writes,
            synchronous_commit: commit,
            synchronous_standby_names: names,
            synchronous,
            hidden,
            now,
        }
    }
}

impl Settings {
    /// What a commit survives here, where that is enough.
    ///
    /// # Errors
    /// One line: what is wrong, and what to do.
    pub(super) fn judge(&self, require: Require, now: UnixTime) -> Result<Durability, String> {
        if self.in_recovery {
            return Err(
                "is a standby and takes no writes; name the primary, or all of them: host1:5432,host2:5432".into()
            );
        }
        if self.read_only {
            return Err("takes no writes (default_transaction_read_only is on); set it to off".into());
        }
        if !self.fsync {
            return Err("loses acknowledged records in a crash (fsync is off); set fsync = on".into());
        }
        commits(require, &self.synchronous_commit, &self.synchronous_standby_names)?;
        agrees(self.now, now)?;
        let waits = !self.synchronous_standby_names.trim().is_empty();
        if waits && self.synchronous == 0 && self.hidden == 0 {
            return Err(format!(
                "waits with every commit for a synchronous standby, and none of {} streams; start one",
                self.synchronous_standby_names
            ));
        }
        Ok(if waits { Durability::Standby } else { Durability::Machine })
    }

    /// What the operator should know although it is used; `None` where all is well.
    pub(super) fn weakness(&self) -> Option<&'static str> {
        if self.synchronous_standby_names.trim().is_empty() {
            return Some(
                "a commit is on one machine only: losing it, or failing over to a standby, loses what was acknowledged \
                 and had not reached that one; set synchronous_standby_names, then database_requires = \"replicated\"",
            );
        }
        (!self.full_page_writes).then_some(
            "full_page_writes is off: a crash may tear pages where the file system does not write them whole",
        )
    }
}

/// Whether the clocks of the database and of this server agree: with a clock that jumped this server would issue what
/// is over or not yet valid, and end nodes that are not silent.
///
/// # Errors
/// One line.
pub(super) fn agrees(database: i64, ours: UnixTime) -> Result<(), String> {
    let ahead = ours.0.saturating_sub(database);
    if ahead.unsigned_abs() <= SKEW_SECS {
        return Ok(());
    }
    let how = if ahead > 0 { "ahead of" } else { "behind" };
    Err(format!(
        "and this server disagree on the time: our clock is {} s {how} its clock, more than {SKEW_SECS} s; set them by a time service",
        ahead.unsigned_abs()
    ))
}

/// Whether a session's commit is enough; asked in every transaction, as an operator may change it at any time.
///
/// # Errors
/// One line, as [`Settings::judge`].
pub(super) fn commits(require: Require, synchronous_commit: &str, standby_names: &str) -> Result<(), String> {
    match (require, synchronous_commit) {
        (_, "off" | "local") => {
            return Err(format!(
                "acknowledges what may yet be lost (synchronous_commit is {synchronous_commit}); set it to on"
            ));
        }
        (Require::Replicated, "remote_write") => {
            return Err("has standbys that acknowledge before they wrote (synchronous_commit is remote_write); \
                        set it to on"
                .into());
        }
        (Require::Durable | Require::Replicated, _) => {}
    }
    if require == Require::Replicated && standby_names.trim().is_empty() {
        return Err("keeps a commit on one machine only (synchronous_standby_names is empty), and database_requires \
                    is \"replicated\"; name a standby there, or accept the loss with \"durable\""
            .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn replicated() -> Settings {
        (false, false, true, true, "on".to_owned(), "FIRST 1 (a, b)".to_owned(), 1, 0, NOW.0).into()
    }

    #[test]
    fn a_primary_with_a_synchronous_standby_is_enough_for_all() {
        for require in [Require::Durable, Require::Replicated] {
            assert_eq!(replicated().judge(require, NOW), Ok(Durability::Standby));
        }
    }

    #[test]
    fn a_single_server_is_enough_unless_a_standby_is_required() {
        let single = Settings { synchronous_standby_names: " ".into(), synchronous: 0, ..replicated() };
        assert_eq!(single.judge(Require::Durable, NOW), Ok(Durability::Machine));
        assert!(single.judge(Require::Replicated, NOW).unwrap_err().contains("synchronous_standby_names is empty"));
    }

    #[test]
    fn each_weakness_is_refused_with_its_setting() {
        let good = replicated();
        let weak = [
            (Settings { in_recovery: true, ..good.clone() }, "standby"),
            (Settings { read_only: true, ..good.clone() }, "default_transaction_read_only"),
            (Settings { fsync: false, ..good.clone() }, "fsync"),
            (Settings { synchronous_commit: "off".into(), ..good.clone() }, "synchronous_commit is off"),
            (Settings { synchronous_commit: "local".into(), ..good.clone() }, "synchronous_commit is local"),
            (Settings { synchronous: 0, ..good.clone() }, "none of FIRST 1 (a, b) streams"),
        ];
        for (settings, word) in weak {
            for require in [Require::Durable, Require::Replicated] {
                let told = settings.judge(require, NOW).unwrap_err();
                assert!(told.contains(word), "{told}");
            }
        }
        let late = Settings { synchronous_commit: "remote_write".into(), ..good };
        assert_eq!(late.judge(Require::Durable, NOW), Ok(Durability::Standby));
        assert!(late.judge(Require::Replicated, NOW).unwrap_err().contains("remote_write"));
    }

    #[test]
    fn clocks_that_differ_by_more_than_a_minute_are_refused_with_the_difference() {
        let judged = |now| replicated().judge(Require::Durable, UnixTime(now));
        for near in [NOW.0 - 60, NOW.0 + 60] {
            assert!(judged(near).is_ok());
        }
        assert!(judged(NOW.0 + 61).unwrap_err().contains("61 s ahead of"));
        assert!(judged(NOW.0 - 7200).unwrap_err().contains("7200 s behind"));
    }

    #[test]
    fn an_operator_is_told_of_a_single_machine_and_of_torn_pages() {
        let single = Settings { synchronous_standby_names: String::new(), ..replicated() };
        assert!(single.weakness().unwrap().contains("synchronous_standby_names"));
        let torn = Settings { full_page_writes: false, ..replicated() };
        assert!(torn.weakness().unwrap().contains("full_page_writes"));
        assert_eq!(replicated().weakness(), None);
    }

    #[test]
    fn standbys_that_may_not_be_looked_at_are_believed() {
        let hidden = Settings { synchronous: 0, hidden: 2, ..replicated() };
        assert_eq!(hidden.judge(Require::Replicated, NOW), Ok(Durability::Standby));
    }
}
