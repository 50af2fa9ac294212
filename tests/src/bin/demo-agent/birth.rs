//! Processes that come from this one: the same program, run anew for the same user.

use std::{os::unix::process::CommandExt, process::Command};

use chancery_sdk::workload::{ClientError, Endpoint, WorkloadClient};
use chancery_tests::demo::protocol::{Asked, Birth};

/// The first argument of such a process; the second says how it came to be.
const ASK: &str = "ask";
/// Whom the token is for.
const AUDIENCE: &str = "demo-ledger";

/// How this process came to be, when it came from an agent.
pub fn of_this_process() -> Option<Birth> {
    let mut arguments = std::env::args().skip(1);
    arguments.next().filter(|word| word == ASK)?;
    serde_json::from_str(&arguments.next()?).ok()
}

/// Makes such a process. It says itself what it was given: what it says goes where this process says things.
pub fn bear(by: Birth) -> Result<(), Box<dyn std::error::Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ASK, &serde_json::to_string(&by)?]);
    match by {
        Birth::Exec => Err(command.exec().into()),
        // Nothing of this process speaks meanwhile: their lines do not mix.
        Birth::Fork => {
            command.status()?;
            Ok(())
        }
    }
}

/// Asks the Workload API once for each kind of SVID.
pub async fn ask(by: Birth) -> Result<Asked, Box<dyn std::error::Error>> {
    let client = WorkloadClient::connect(&Endpoint::from_env()?);
    let x509 = client.fetch_x509().await.map(|context| context.default_svid().id().to_string());
    let jwt = client.fetch_jwt(&[AUDIENCE], None).await;
    let jwt = jwt.map(|tokens| tokens.first().map_or_else(|| "of nobody".into(), |token| token.id().to_string()));
    let words = |refusal: ClientError| refusal.to_string();
    Ok(Asked { by, pid: std::process::id(), x509: x509.map_err(words), jwt: jwt.map_err(words) })
}
