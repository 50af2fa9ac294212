use std::time::Duration;

use chancery_tests::{
    playground::Attest,
    process::{Process, until},
};

use crate::support::{postgres_database, stage};

#[test]
fn three_tpm_nodes_come_up_on_sqlite() {
    let stage = stage(Attest::Tpm, |o| o.nodes = 3);
    let nodes = stage.ca_json(&["node", "list"]);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 3);
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!((node["standing"].as_str(), node["attestation_type"].as_str()), (Some("good"), Some("tpm")));
    }
}

#[test]
fn three_tpm_nodes_come_up_on_postgres() {
    let Some(url) = postgres_database("bring_up") else { return };
    let stage = stage(Attest::Tpm, |o| (o.nodes, o.db) = (3, url));
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 3);
}

#[test]
fn playground_json_names_files_that_exist() {
    let stage = stage(Attest::JoinToken, |_| {});
    let text = std::fs::read_to_string(stage.playground.dir.join("playground.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let node = &all["nodes"][0];
    for path in [&all["ca"]["admin_socket"], &all["ca"]["bundle_pem"], &all["ca"]["bundle_json"], &all["ca"]["config"]]
    {
        assert!(std::path::Path::new(path.as_str().unwrap()).exists(), "{path}");
    }
    for path in [&node["workload_socket"], &node["admin_socket"], &node["config"]] {
        assert!(std::path::Path::new(path.as_str().unwrap()).exists(), "{path}");
    }
    assert_eq!(node["tpm"], serde_json::Value::Null);
    assert!(node["spiffe_id"].as_str().unwrap().starts_with("spiffe://playground.test/spire/agent/join_token/"));
}

#[test]
fn a_used_join_token_admits_nobody_else() {
    let stage = stage(Attest::JoinToken, |_| {});
    let machine = &stage.playground.machines[0];
    let second = stage.playground.dir.join("second");
    std::fs::create_dir(&second).unwrap();
    let config = std::fs::read_to_string(&machine.config).unwrap();
    let (first, other) = (machine.data_dir.display().to_string(), second.join("data").display().to_string());
    let config = config
        .replace(&first, &other)
        .replace("workload.sock", "second-workload.sock")
        .replace("admin.sock", "second-admin.sock");
    // The first has that door.
    let config: String =
        config.lines().filter(|line| !line.starts_with("metrics_listen")).fold(String::new(), |all, l| all + l + "\n");
    let path = second.join("attestor.toml");
    std::fs::write(&path, config).unwrap();
    let program = stage.playground.bin.path("chancery-attestor");
    let log = second.join("log");
    let mut process = Process::start("second", &program, &["run", "--config", path.to_str().unwrap()], &log).unwrap();
    let refused = until(Duration::from_secs(10), || {
        let events = stage.playground.ca(&["audit", "list"])?;
        events.contains("JOIN_TOKEN_UNKNOWN").then_some(()).ok_or("no refusal in the record".into())
    });
    process.stop();
    refused.unwrap();
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_token_node_comes_up_and_gets_a_new_svid_by_attesting_again() {
    let stage = stage(Attest::Pkcs11, |o| o.lifetimes.node_ttl = Some("30s".into()));
    let node = || stage.ca_json(&["node", "list"])["nodes"][0].clone();
    let first = node();
    assert_eq!((first["standing"].as_str(), first["attestation_type"].as_str()), (Some("good"), Some("pkcs11")));
    assert_eq!(first["id"].as_str(), Some(stage.playground.machines[0].spiffe_id.as_str()));
    assert!(first["selectors"].to_string().contains("pop-only"), "{first}");
    let renewed = until(Duration::from_secs(40), || {
        let events = stage.playground.ca(&["audit", "list"])?;
        let attested = events.lines().filter(|line| line.contains("\"node.attested\"")).count();
        (attested >= 2).then_some(()).ok_or(format!("attested {attested} times"))
    });
    renewed.unwrap();
    assert_eq!(node()["standing"], "good");
}
