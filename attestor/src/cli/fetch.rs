use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_daemon::file::write_atomic;
use chancery_sdk::{
    id::SpiffeId,
    workload::{Event, WorkloadClient, X509Bundles, X509Context},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Output, local::endpoint};

/// What to fetch.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// The trust domains' bundles, and with `--write` the certificate revocation lists of the own one (crl.pem)
    Bundle(Common),
    /// JWT-SVIDs
    Jwt {
        /// Whom the token is for; may be repeated
        #[arg(long, required = true, value_delimiter = ',')]
        audience: Vec<String>,
        /// One identity only
        #[arg(long)]
        spiffe_id: Option<SpiffeId>,
        #[command(flatten)]
        common: Common,
    },
    /// X509-SVIDs with their keys
    X509(Common),
}

/// Options of every fetch.
#[derive(Args, Debug)]
pub(super) struct Common {
    /// Workload API socket; else SPIFFE_ENDPOINT_SOCKET, else /run/chancery/attestor/workload.sock
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Folder for files, made when missing; keys are written with mode 0600
    #[arg(long)]
    write: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Fetches once and prints.
pub(super) async fn fetch(what: What) -> Result<(), String> {
    match what {
        What::Bundle(common) => bundle(&common).await,
        What::Jwt { audience, spiffe_id, common } => jwt(&audience, spiffe_id.as_ref(), &common).await,
        What::X509(common) => x509(&common).await,
    }
}

async fn x509(common: &Common) -> Result<(), String> {
    let context = client(common)?.fetch_x509().await.map_err(|e| e.to_string())?;
    if let Some(dir) = &common.write {
        write(dir, &x509_files(&context))?;
    }
    match common.output {
        Output::Json => println!("{}", x509_json(&context)),
        Output::Pretty => print_x509(&context),
    }
    Ok(())
}

async fn jwt(audience: &[String], id: Option<&SpiffeId>, common: &Common) -> Result<(), String> {
    let client = client(common)?;
    let audience: Vec<_> = audience.iter().map(String::as_str).collect();
    let tokens = client.fetch_jwt(&audience, id).await.map_err(|e| e.to_string())?;
    if let Some(dir) = &common.write {
        let name = |n: usize| format!("jwt.{n}.token");
        write(dir, &tokens.iter().enumerate().map(|(n, t)| (name(n), t.token().into())).collect())?;
    }
    match common.output {
        Output::Json => {
            let one = |t: &chancery_sdk::workload::JwtToken| json!({"hint": t.hint(), "spiffe_id": t.id(), "svid": t.token()});
            println!("{}", json!({"svids": tokens.iter().map(one).collect::<Vec<_>>()}));
        }
        Output::Pretty => {
            for token in &tokens {
                println!(
                    "SPIFFE ID  : {}\nExpires    : {}\nToken      : {}\n",
                    token.id(),
                    token.expires_at(),
                    token.token()
                );
            }
        }
    }
    Ok(())
}

async fn bundle(common: &Common) -> Result<(), String> {
    let client = client(common)?;
    let X509Bundles { bundles: x509, crls } = client.fetch_x509_bundles().await.map_err(|e| e.to_string())?;
    let jwt = client.fetch_jwt_bundles().await.map_err(|e| e.to_string())?.bundles;
    if let Some(dir) = &common.write {
        let pems = x509.iter().map(|b| (format!("{}.pem", b.trust_domain()), b.to_pem().into_bytes()));
        let jwks = jwt.iter().map(|b| (format!("{}.jwks.json", b.trust_domain()), b.to_jwks()));
        let lists = crls.iter().map(|der| pem("X509 CRL", der)).collect::<String>();
        let lists = (!crls.is_empty()).then(|| ("crl.pem".to_owned(), lists.into_bytes()));
        write(dir, &pems.chain(jwks).chain(lists).collect())?;
    }
    match common.output {
        Output::Json => {
            let x509: BTreeMap<_, _> = x509
                .iter()
                .map(|b| (b.trust_domain().id().to_string(), STANDARD.encode(b.to_der_concatenated())))
                .collect();
            let jwt: BTreeMap<_, _> =
                jwt.iter().map(|b| (b.trust_domain().id().to_string(), STANDARD.encode(b.to_jwks()))).collect();
            println!("{}", json!([{"bundles": x509, "crl": []}, {"bundles": jwt}]));
        }
        Output::Pretty => x509.iter().for_each(|b| println!("{}\n{}", b.trust_domain().id(), b.to_pem())),
    }
    Ok(())
}

/// Prints every update until interrupted.
pub(super) async fn watch(socket: Option<&Path>, output: Output) -> Result<(), String> {
    let mut updates = WorkloadClient::connect(&endpoint(socket)?).watch_x509();
    while let Some(event) = updates.next().await {
        match (event, output) {
            (Event::Update(context), Output::Json) => println!("{}", x509_json(&context)),
            (Event::Update(context), Output::Pretty) => print_x509(&context),
            (Event::Denied(status) | Event::Lost(status), _) => eprintln!("{:?}: {}", status.code(), status.message()),
            (Event::Discarded(fault), _) => eprintln!("message dropped: {fault}"),
            (Event::Ended(status), _) => return Err(format!("{:?}: {}", status.code(), status.message())),
        }
    }
    Ok(())
}

fn client(common: &Common) -> Result<WorkloadClient, String> {
    Ok(WorkloadClient::connect(&endpoint(common.socket.as_deref())?))
}

fn print_x509(context: &X509Context) {
    for issued in &context.svids {
        let svid = &issued.svid;
        println!("SPIFFE ID  : {}", svid.id());
        if !issued.hint.is_empty() {
            println!("Hint       : {}", issued.hint);
        }
        println!(
            "Serial     : {}\nNot before : {}\nNot after  : {}\n",
            svid.serial_decimal(),
            svid.not_before(),
            svid.not_after()
        );
    }
}

/// As the answer on the wire: protobuf's JSON, snake_case names, bytes in base64.
fn x509_json(context: &X509Context) -> Value {
    let own =
        |id: &SpiffeId| context.bundles.get(&id.trust_domain()).map(|b| b.to_der_concatenated()).unwrap_or_default();
    let svids: Vec<_> = context
        .svids
        .iter()
        .map(|issued| {
            let svid = &issued.svid;
            json!({
                "bundle": STANDARD.encode(own(svid.id())),
                "hint": issued.hint,
                "spiffe_id": svid.id(),
                "x509_svid": STANDARD.encode(svid.chain_der_concatenated()),
                "x509_svid_key": STANDARD.encode(svid.private_key_pkcs8()),
            })
        })
        .collect();
    let foreign =
        context.bundles.iter().filter(|b| !context.svids.iter().any(|s| s.svid.id().is_member_of(b.trust_domain())));
    let federated: BTreeMap<_, _> =
        foreign.map(|b| (b.trust_domain().id().to_string(), STANDARD.encode(b.to_der_concatenated()))).collect();
    json!({"crl": [], "federated_bundles": federated, "svids": svids})
}

/// SPIRE's file names: `svid.N.pem`, `svid.N.key`, `bundle.N.pem`.
fn x509_files(context: &X509Context) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (n, issued) in context.svids.iter().enumerate() {
        let svid = &issued.svid;
        let chain: String = svid.chain().iter().map(|der| pem("CERTIFICATE", der)).collect();
        files.insert(format!("svid.{n}.pem"), chain.into_bytes());
        files.insert(format!("svid.{n}.key"), pem("PRIVATE KEY", svid.private_key_pkcs8()).into_bytes());
        if let Some(bundle) = context.bundles.get(&svid.id().trust_domain()) {
            files.insert(format!("bundle.{n}.pem"), bundle.to_pem().into_bytes());
        }
    }
    files
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

/// Writes all files, each by rename; what is secret is for the owner alone.
fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(told)?;
    for (name, bytes) in files {
        let mode = if name.ends_with(".key") || name.ends_with(".token") { 0o600 } else { 0o644 };
        write_atomic(&dir.join(name), bytes, mode).map_err(told)?;
    }
    Ok(())
}
