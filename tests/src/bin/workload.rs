//! A process for the system tests: does what it is told, a line at a time, and answers each line by one line of JSON.
//!
//! Says first that it is ready, after an exec too. `x509` asks the Workload API, `jwt AUDIENCE` for a token; `child` and
//! `child AUDIENCE` let a child process, which runs this program anew, ask the same; `exec PATH` becomes another program,
//! which goes on reading. With the argument `once` it asks once and ends.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use chancery_sdk::workload::{Endpoint, WorkloadClient};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "once") {
        println!("{}", ask(arguments.get(1).map(String::as_str).unwrap_or_default()));
        return;
    }
    println!("{}", json!({ "ready": std::process::id() }));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("x509", _) => println!("{}", ask("")),
            ("jwt", audience) => println!("{}", ask(audience)),
            ("child", audience) => {
                println!("{}", child(audience).unwrap_or_else(|e| json!({ "error": e.to_string() })));
            }
            ("exec", path) => println!("{}", json!({ "error": Command::new(path).exec().to_string() })),
            _ => println!("{}", json!({ "error": format!("'{line}': x509, jwt, child or exec PATH") })),
        }
    }
}

/// What the Workload API gives this process now: an identity, or, for an audience, a token.
fn ask(audience: &str) -> Value {
    let fetch = async {
        let endpoint = Endpoint::from_env().map_err(|e| e.to_string())?;
        let client = WorkloadClient::connect(&endpoint);
        if audience.is_empty() {
            let context = client.fetch_x509().await.map_err(|e| e.to_string())?;
            let svid = context.default_svid();
            return Ok(json!({ "id": svid.id(), "serial": svid.serial_decimal(), "not_after": svid.not_after().0 }));
        }
        let tokens = client.fetch_jwt(&[audience], None).await.map_err(|e| e.to_string())?;
        let token = tokens.first().ok_or("no token")?;
        Ok(json!({ "id": token.id(), "token": token.token() }))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer: Result<Value, String> = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(fetch));
    answer.unwrap_or_else(|problem| json!({ "error": problem }))
}

/// What a child of this process gets.
fn child(audience: &str) -> std::io::Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    let out = command.args(["once", audience]).stdin(Stdio::null()).output()?;
    serde_json::from_slice(&out.stdout).map_err(std::io::Error::other)
}
