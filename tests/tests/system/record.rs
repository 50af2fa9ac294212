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

/// With full write access to the database.
fn sql(stage: &Stage, sql: &str) {
    let database = described(stage)["ca"]["database"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{database}")).await.unwrap();
        raw_sql(AssertSqlSafe(sql.to_string())).execute(&mut connection).await.unwrap();
    });
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
    sql(&stage, "UPDATE events SET subject = 'nobody' WHERE number = 3");
    let (code, report) = verify(&stage, &[]);
    assert_eq!((code, report["verified"].as_bool()), (Some(1), Some(false)), "{report}");
    assert_eq!(report["findings"][0]["event"], "3", "{report}");
    let told = audit(&stage, &["verify"]);
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.code() == Some(1) && said.contains("event 3") && said.contains("column subject"), "{said}");
    // The copy is what it was.
    assert_eq!(alone(&["--since", kept.to_str().unwrap()]).status.code(), Some(0));
}

/// `trace` in JSON, once each event of it has its proof.
fn trace(stage: &Stage, args: &[&str]) -> Value {
    let config = described(stage)["ca"]["config"].as_str().unwrap().to_owned();
    let program = stage.playground.bin.path("chancery-ca");
    let traced = until(SOON, || {
        let mut command = Command::new(&program);
        let out = command.arg("trace").args(args).args(["--output", "json", "--config", &config]).output().unwrap();
        let json: Value = serde_json::from_slice(&out.stdout).map_err(|e| format!("{e}: {out:?}"))?;
        let proved = json["events"].as_array().unwrap().iter().all(|event| event["proof"].is_array());
        if proved { Ok(json) } else { Err("an event has no proof yet".into()) }
    });
    traced.unwrap()
}

fn kinds(trace: &Value) -> Vec<String> {
    let events = trace["events"].as_array().unwrap().iter();
    let parsed = events.map(|event| serde_json::from_str::<Value>(event["event"].as_str().unwrap()).unwrap());
    parsed.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_trace_leads_from_instance_serial_and_process_to_the_nodes_proof_and_verifies_offline() {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    let file = stage.playground.dir.join("case.json");
    let whole = trace(&stage, &[&id, "--bundle", file.to_str().unwrap()]);
    for kind in ["instance.begun", "class.created", "node.attested", "authority.prepared"] {
        assert!(kinds(&whole).iter().any(|found| found == kind), "{kind} in {:?}", kinds(&whole));
    }
    let key = String::from_utf8(audit(&stage, &["key"]).stdout).unwrap();
    let offline = |file: &Path| {
        let mut command = Command::new(stage.playground.bin.path("chancery-verify"));
        command.args(["bundle", file.to_str().unwrap(), "--key", key.trim()]).output().unwrap()
    };
    let told = offline(&file);
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.code() == Some(0) && said.contains("the chain is whole"), "{told:?}");
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("instance.begun", "instance.begum", 1)).unwrap();
    assert_eq!(offline(&file).status.code(), Some(1));

    let node = stage.playground.machines[0].spiffe_id.clone();
    let process = trace(&stage, &[&node, "--pid", &workload.pid().to_string()]);
    assert!(process.to_string().contains(&id), "{process}");
    let begun =
        whole["events"].as_array().unwrap().iter().find(|e| e["event"].as_str().unwrap().contains("instance.begun"));
    let begun: Value = serde_json::from_str(begun.unwrap()["event"].as_str().unwrap()).unwrap();
    let serial = trace(&stage, &[begun["fields"]["serial"].as_str().unwrap()]);
    assert!(kinds(&serial).contains(&"node.attested".to_owned()));
    let since = trace(&stage, &[&node, "--since-quote"]);
    assert!(kinds(&since).contains(&"instance.begun".to_owned()), "{since}");
}

#[test]
fn an_auditor_finds_the_quote_that_a_node_was_admitted_by_and_what_it_was_made_for() {
    let stage = stage(Attest::Tpm, |_| {});
    let listed = stage.ca(&["audit", "list"]);
    let attested = listed.lines().find(|line| line.contains("node.attested")).unwrap();
    let attested: Value = serde_json::from_str(attested).unwrap();
    let digest = attested["fields"]["evidence"].as_str().unwrap().to_owned();
    let dir = stage.playground.dir.join("case");
    let evidence = |more: &[&str]| audit(&stage, &[&["evidence"][..], more].concat());
    let told = evidence(&[&digest, "--write", dir.to_str().unwrap()]);
    assert!(told.status.success(), "{told:?}");

    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let document: Value = serde_json::from_slice(&read("evidence.json")).unwrap();
    let base = hex::decode(document["bases"]["tpm"].as_str().unwrap()).unwrap().try_into().unwrap();
    let qualifier = chancery_core::transcript::quote_qualifier(&base);
    let answer = read("answer.bin");
    assert!(answer.windows(32).any(|window| window == qualifier), "the quote was made for something else");
    assert!(!read("opening.bin").is_empty() && !read("csr.bin").is_empty() && !read("challenge.bin").is_empty());

    assert_eq!(evidence(&["9f86"]).status.code(), Some(2));
    let unknown = evidence(&[&"00".repeat(32)]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && said.contains("log.evidence_kept"), "{said}");
}

#[test]
fn a_record_rewritten_with_the_stolen_key_is_refused_by_a_node_which_serves_on() {
    let mut stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    let witnessed = stage.playground.machines[0].data_dir.join("witness.json");
    until(SOON, || fs::metadata(&witnessed).map(drop).map_err(|e| e.to_string())).unwrap();

    stage.playground.authority.process().kill();
    let event = "SELECT replace(CAST(bytes AS TEXT), '\"version\":\"', '\"version\":\"9') FROM events \
                 WHERE kind = 'server.started'";
    rewrite(&stage, event);
    sql(&stage, "DELETE FROM checkpoints");
    fs::remove_dir_all(log_folder(&stage.playground.dir).unwrap()).unwrap();
    stage.playground.authority.restart().unwrap();

    let told = until(SOON, || match audit_list(&stage).lines().find(|line| line.contains("log.disputed")) {
        Some(event) => Ok(event.to_owned()),
        None => Err("no node has said anything".into()),
    });
    let told = told.unwrap();
    assert!(told.contains("\"verdict\":\"proven\"") && told.contains("\"why\":\"another\""), "{told}");
    let log = fs::read_to_string(stage.playground.machines[0].log()).unwrap();
    assert!(log.contains("A CHECKPOINT OF THE CA'S RECORD IS REFUSED"), "{log}");
    assert_eq!(workload.x509(), Ok(id), "agents are served");
}

fn audit_list(stage: &Stage) -> String {
    stage.ca(&["audit", "list"])
}

/// Puts what a query yields in the place of the start of the CA, with its hash.
fn rewrite(stage: &Stage, query: &str) {
    let database = described(stage)["ca"]["database"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text: String = runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{database}")).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(query.to_string())).fetch_one(&mut connection).await.unwrap()
    });
    let hash = hex::encode(chancery_core::event::leaf_hash(text.as_bytes()));
    let bytes = hex::encode(&text);
    sql(stage, &format!("UPDATE events SET bytes = x'{bytes}', hash = x'{hash}' WHERE kind = 'server.started'"));
}
