//! A process for the system tests: does what it is told, a line at a time, and answers each line by one line of JSON.
//!
//! Says first that it is ready, after an exec too. `x509` asks the Workload API; `child` lets a child process ask; `exec PATH` becomes another program, which goes on
//! reading. With the argument `once` it asks once and ends.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use chancery_sdk::workload::{Endpoint, WorkloadClient};
use serde_json::{Value, json};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("once") {
        println!("{}", ask());
        return;
    }
    println!("{}", json!({ "ready": std::process::id() }));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("x509", _) => println!("{}", ask()),
            ("child", _) => println!("{}", child().unwrap_or_else(|e| json!({ "error": e.to_string() }))),
            ("exec", path) => println!("{}", json!({ "error": Command::new(path).exec().to_string() })),
            _ => println!("{}", json!({ "error": format!("'{line}': x509, child or exec PATH") })),
        }
    }
}

/// The identity the Workload API gives this process now.
fn ask() -> Value {
    let fetch = async {
        let endpoint = Endpoint::from_env().map_err(|e| e.to_string())?;
        WorkloadClient::connect(&endpoint).fetch_x509().await.map_err(|e| e.to_string())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(fetch)) {
        Ok(context) => {
            let svid = context.default_svid();
            json!({ "id": svid.id(), "serial": svid.serial_decimal(), "not_after": svid.not_after().0 })
        }
        Err(problem) => json!({ "error": problem }),
    }
}

/// What a child of this process gets.
fn child() -> std::io::Result<Value> {
    let out = Command::new(std::env::current_exe()?).arg("once").stdin(Stdio::null()).output()?;
    serde_json::from_slice(&out.stdout).map_err(std::io::Error::other)
}
