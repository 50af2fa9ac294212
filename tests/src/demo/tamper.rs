//! The last act: somebody with full write access to the database rewrites the record, and the verifier names what he touched.
//!
//! It is done to a copy of database and log, so that everything else goes on.

use std::{fs, path::PathBuf, process::Command};

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{acts::copy_tree, say, setting::Setting};

/// Another instance's name, in the place of one that began.
pub fn rewritten_record(setting: &Setting) -> Result<(), String> {
    say("act 7: somebody with full write access to the database rewrites who began, and its hash with it");
    let copy = Copy::of(setting)?;
    let (code, said) = copy.verify(setting)?;
    if code != Some(0) {
        return Err(format!("the copy should be whole before it is touched: {said}"));
    }
    println!("before: {}", said.lines().last().unwrap_or_default());
    let number = copy.rewrite()?;
    let (code, said) = copy.verify(setting)?;
    let found = said.lines().find(|line| line.starts_with("FOUND"));
    match found {
        Some(found) if code == Some(1) && found.contains(&format!("event {number}:")) => {
            println!("chancery-ca audit verify: {found}");
            println!(
                "with the log's key too he could sign another past; each node keeps the checkpoint that finds that"
            );
            Ok(())
        }
        _ => Err(format!("the verifier does not name event {number}: {said}")),
    }
}

/// Database and log of the CA, as they were at one moment, and a configuration that names them.
struct Copy {
    database: PathBuf,
    config: PathBuf,
}

impl Copy {
    fn of(setting: &Setting) -> Result<Self, String> {
        let told = |e: std::io::Error| e.to_string();
        let ca = &setting.playground.authority;
        let folder = setting.scratch.join("record");
        let log = ca.config.parent().ok_or("no folder of the CA")?.join("data/log");
        // What is shown is in the tiles that are copied after it, and in the database that is copied after those.
        let shown = fs::read(log.join("0/checkpoint")).map_err(told)?;
        copy_tree(&log, &folder.join("log"))?;
        fs::write(folder.join("log/0/checkpoint"), shown).map_err(told)?;
        let database = folder.join("ca.sqlite3");
        sql(&ca.database, &format!("VACUUM INTO '{}'", database.display()))?;
        let text = fs::read_to_string(&ca.config).map_err(told)?;
        let text = text.replace(&format!("{:?}", ca.database), &format!("{database:?}"));
        let config = folder.join("ca.toml");
        fs::write(&config, format!("{text}\n[log]\ndir = {:?}\n", folder.join("log"))).map_err(told)?;
        Ok(Self { database, config })
    }

    /// Exit code of `audit verify`, and what it says.
    fn verify(&self, setting: &Setting) -> Result<(Option<i32>, String), String> {
        let mut command = Command::new(setting.playground.bin.path("chancery-ca"));
        let out =
            command.args(["audit", "verify", "--config"]).arg(&self.config).output().map_err(|e| e.to_string())?;
        let both = [out.stdout, out.stderr].concat();
        Ok((out.status.code(), String::from_utf8_lossy(&both).into_owned()))
    }

    /// Gives the first instance another name, in each column and with the hash that fits; its number.
    fn rewrite(&self) -> Result<i64, String> {
        let database = self.database.display().to_string();
        let (number, subject, bytes) = first_begun(&database)?;
        let other = format!("{}0", &subject[..subject.len() - 1]);
        let other = if other == subject { format!("{}1", &subject[..subject.len() - 1]) } else { other };
        let text = bytes.replace(&subject, &other);
        let hash = hex::encode(chancery_core::event::leaf_hash(text.as_bytes()));
        let bytes = hex::encode(text);
        sql(
            &database,
            &format!(
                "UPDATE events SET subject = '{other}', bytes = x'{bytes}', hash = x'{hash}' WHERE number = {number}"
            ),
        )?;
        println!("event {number}: {subject} is now {other}");
        Ok(number)
    }
}

fn first_begun(database: &str) -> Result<(i64, String, String), String> {
    const FIRST: &str = "SELECT number, subject, CAST(bytes AS TEXT) FROM events WHERE kind = 'instance.begun' \
        ORDER BY number LIMIT 1";
    block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{database}")).await?;
        sqlx::query_as(FIRST).fetch_one(&mut connection).await
    })
}

fn sql(database: &str, sql: &str) -> Result<(), String> {
    block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{database}")).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        connection.close().await
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(work).map_err(|e| e.to_string())
}
