//! The signed record, with real processes: verified beside a running CA and by itself, and found altered.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chancery_tests::{playground::Attest, process::until};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, raw_sql};

use crate::support::{SOON, Stage, stage};

fn described(stage: &Stage) -> Value {
    let text = fs::read_to_string(stage.playground.dir.join("playground.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn audit(stage: &Stage, more: &[&str]) -> Output {
    let config = described(stage)["ca"]["config"].as_str().unwrap().to_owned();
    let mut command = Command::new(stage.playground.bin.path("chancery-ca"));
    command.arg("audit").args(more).args(["--config", &config]).output().unwrap()
}

/// `audit verify` in JSON, and its exit code.
fn verify(stage: &Stage, more: &[&str]) -> (Option<i32>, Value) {
    let out = audit(stage, &[&["verify", "--output", "json"][..], more].concat());
    let json = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    (out.status.code(), json)
}

/// The folder that holds `checkpoint`, below the playground's.
fn log_folder(below: &Path) -> Option<PathBuf> {
    fs::read_dir(below).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).find_map(
        |entry| {
            let path = entry.path();
            if path.file_name().is_some_and(|name| name == "0") && path.join("checkpoint").is_file() {
                return Some(path);
            }
            log_folder(&path)
        },
    )
}

#[test]
fn a_record_is_verified_beside_the_ca_and_alone_and_an_altered_event_is_named() {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.entry_for_us(0, "/w");
    let vouched = until(SOON, || {
        let (code, report) = verify(&stage, &[]);
        let epoch = &report["epochs"][0];
        match code == Some(0) && epoch["vouched"] == epoch["events"] && epoch["events"] != "0" {
            true => Ok(()),
            false => Err(format!("{code:?} {report}")),
        }
    });
    vouched.unwrap();
    let key = String::from_utf8(audit(&stage, &["key"]).stdout).unwrap();
    let folder = log_folder(&stage.playground.dir).expect("a log is shown");
    let alone = |more: &[&str]| {
        let mut command = Command::new(stage.playground.bin.path("chancery-verify"));
        command.args(["log", folder.to_str().unwrap(), "--key", key.trim()]).args(more).output().unwrap()
    };
    let told = alone(&[]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let kept = stage.playground.dir.join("kept");
    fs::copy(folder.join("checkpoint"), &kept).unwrap();
    assert_eq!(verify(&stage, &["--since", kept.to_str().unwrap()]).0, Some(0));
    assert_eq!(audit(&stage, &["verify", "--since", "/nowhere"]).status.code(), Some(2));

    // Somebody with full write access to the database.
    let database = described(&stage)["ca"]["database"].as_str().unwrap().to_owned();
    let edit = "UPDATE events SET subject = 'nobody' WHERE number = 3";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{database}")).await.unwrap();
        raw_sql(AssertSqlSafe(edit.to_string())).execute(&mut connection).await.unwrap();
    });
    let (code, report) = verify(&stage, &[]);
    assert_eq!((code, report["verified"].as_bool()), (Some(1), Some(false)), "{report}");
    assert_eq!(report["findings"][0]["event"], "3", "{report}");
    let told = audit(&stage, &["verify"]);
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.code() == Some(1) && said.contains("event 3") && said.contains("column subject"), "{said}");
    // The copy is what it was.
    assert_eq!(alone(&["--since", kept.to_str().unwrap()]).status.code(), Some(0));
}
