use tonic::{Code, Status};

use crate::{
    attestation::{Dialogue, Recording, attest, collector},
    playground::{Playground, preferred_ek},
    process::run,
    swtpm::{Manufacturer, Swtpm},
};

/// Records a genuine attestation of an enrolled TPM and sends it again on another connection.
///
/// `fresh` spoils the attack: the second attestation answers its own challenge. Answers whether the CA admitted it.
///
/// # Errors
/// The genuine attestation failed, or the CA answered something else than yes or no.
pub fn replay_attestation(playground: &Playground, fresh: bool) -> Result<bool, String> {
    let folder = playground.dir.join("recorded");
    let state = folder.join("tpm");
    Manufacturer::new(&playground.dir.join("manufacturer"))?.make(&state)?;
    let tpm = Swtpm::start(&state)?;
    enrol(playground, &tpm)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(async {
        let mut node = collector(&tpm.tcti(), &playground.trust_domain)?;
        let recorded = attest(&playground.authority, &playground.trust_domain, &mut node).await;
        let recorded = recorded.map_err(|e| format!("the genuine attestation: {e}"))?;
        println!("the genuine attestation was admitted; now the same bytes on a new connection");
        let second = match fresh {
            true => attest(&playground.authority, &playground.trust_domain, &mut node).await.map(|_| ()),
            false => send_again(playground, recorded).await,
        };
        match second {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.code() == Code::PermissionDenied => {
                println!("the CA's whole answer to the replay: {:?}", refusal.message());
                Ok(false)
            }
            Err(other) => Err(format!("the replay: {other}")),
        }
    })
}

async fn send_again(playground: &Playground, recorded: Recording) -> Result<(), Status> {
    let Recording { opening, response, .. } = recorded;
    let domain = &playground.trust_domain;
    let mut dialogue = Dialogue::open(&playground.authority, domain, opening.payload, opening.csr).await?;
    dialogue.challenge().await?;
    dialogue.answer(response).await.map(|_| ())
}

fn enrol(playground: &Playground, tpm: &Swtpm) -> Result<(), String> {
    let program = playground.bin.path("chancery-attestor");
    let answer = run(&program, &["ek", "--tcti", &tpm.tcti(), "--output", "json"])?;
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("ek: {e}"))?;
    let hash = preferred_ek(&answer)?;
    playground.ca(&["node", "enrol", "--ek", hash]).map(|_| ())
}
