//! `x509 mint` and `jwt mint`: SVIDs for operators. The key is made here and never leaves this machine.

use std::path::{Path, PathBuf};

use chancery_daemon::file::write_atomic;
use chancery_proto::spire::api::{
    server::svid::v1::{MintJwtsvidRequest, MintX509svidRequest},
    types,
};
use chancery_sdk::id::SpiffeId;
use clap::Subcommand;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use serde_json::{Value, json};

use super::{Answer, Client, Failure, bundle, files, json, value};

#[derive(Debug, Subcommand)]
pub enum X509Command {
    /// Mint an X509-SVID with a new P-256 key
    #[command(after_help = "Example:\n  chancery-ca x509 mint --spiffe-id spiffe://example.org/ops --write ./ops")]
    Mint {
        /// Its SPIFFE ID
        #[arg(long, value_parser = value::id, value_name = "ID")]
        spiffe_id: SpiffeId,
        /// Lifetime; 0 = the server's default
        #[arg(long, value_parser = value::ttl, default_value = "0", value_name = "TIME")]
        ttl: i32,
        /// DNS name; repeat for more
        #[arg(long = "dns-name", value_name = "NAME")]
        dns_names: Vec<String>,
        /// Folder for svid.pem, key.pem (0600) and bundle.pem; made when missing
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum JwtCommand {
    /// Mint a JWT-SVID
    #[command(after_help = "Example:\n  chancery-ca jwt mint --spiffe-id spiffe://example.org/ops --audience db")]
    Mint {
        /// Its SPIFFE ID
        #[arg(long, value_parser = value::id, value_name = "ID")]
        spiffe_id: SpiffeId,
        /// Who it is for; repeat for more
        #[arg(long = "audience", required = true, value_name = "AUDIENCE")]
        audience: Vec<String>,
        /// Lifetime; 0 = the server's default
        #[arg(long, value_parser = value::ttl, default_value = "0", value_name = "TIME")]
        ttl: i32,
        /// File for the token (0600), replaced by rename
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

pub async fn x509(client: &Client, command: X509Command) -> Result<Answer, Failure> {
    let X509Command::Mint { spiffe_id, ttl, dns_names, write } = command;
    let failed = |e: rcgen::Error| Failure::refused(format!("cannot make the request: {e}"));
    let key = KeyPair::generate().map_err(failed)?;
    let csr = request(&spiffe_id, &dns_names, &key).map_err(failed)?;
    let svid = client.svid().mint_x509svid(MintX509svidRequest { csr, ttl }).await?.into_inner().svid;
    let svid = svid.ok_or_else(|| Failure::refused("the CA's answer has no SVID".into()))?;
    let roots = bundle::own(client).await?;
    let minted = Minted {
        svid: svid.cert_chain.iter().map(|der| files::pem("CERTIFICATE", der)).collect(),
        key: files::pem("PRIVATE KEY", &key.serialize_der()),
        bundle: bundle::written(&roots, bundle::Format::Pem)?,
    };
    let json = json!({
        "private_key": json::bytes(&key.serialize_der()),
        "root_cas": roots.x509_authorities.iter().map(|a| json::bytes(&a.asn1)).collect::<Vec<_>>(),
        "x509_svid": svid.cert_chain.iter().map(|der| json::bytes(der)).collect::<Vec<_>>(),
    });
    match write {
        None => Ok(Answer::new(json, format!("{}\n{}\n{}", minted.svid, minted.key, minted.bundle))),
        Some(folder) => {
            let text = minted.write(&folder)?;
            // The key is in its file; it does not go to the terminal as well.
            Ok(Answer::new(written(&folder, &svid), text))
        }
    }
}

struct Minted {
    svid: String,
    key: String,
    bundle: String,
}

impl Minted {
    fn write(&self, folder: &Path) -> Result<String, Failure> {
        let failed = |path: &Path, e: std::io::Error| Failure::refused(format!("{}: {e}", path.display()));
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let mut text = String::new();
        // The key first: whoever sees a new svid.pem finds its key.
        for (name, pem, mode) in
            [("key.pem", &self.key, 0o600), ("bundle.pem", &self.bundle, 0o644), ("svid.pem", &self.svid, 0o644)]
        {
            let path = folder.join(name);
            write_atomic(&path, pem.as_bytes(), mode).map_err(|e| failed(&path, e))?;
            text.push_str(&format!("Wrote {}\n", path.display()));
        }
        Ok(text)
    }
}

fn written(folder: &Path, svid: &types::X509svid) -> Value {
    let files = ["svid.pem", "key.pem", "bundle.pem"].map(|name| folder.join(name).display().to_string());
    json!({
        "expires_at": svid.expires_at.to_string(),
        "spiffe_id": value::joined(svid.id.as_ref()),
        "written": files,
    })
}

fn request(id: &SpiffeId, dns_names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
    for name in dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    Ok(params.serialize_request(key)?.der().to_vec())
}

pub async fn jwt(client: &Client, command: JwtCommand) -> Result<Answer, Failure> {
    let JwtCommand::Mint { spiffe_id, audience, ttl, write } = command;
    let request = MintJwtsvidRequest { id: Some(value::parts(&spiffe_id)), audience, ttl };
    let svid = client.svid().mint_jwtsvid(request).await?.into_inner().svid;
    let svid = svid.ok_or_else(|| Failure::refused("the CA's answer has no SVID".into()))?;
    let json = json!({ "svid": json::jwt_svid(&svid) });
    match write {
        None => Ok(Answer::new(json, svid.token)),
        Some(path) => {
            let failed = |e| Failure::refused(format!("{}: {e}", path.display()));
            write_atomic(&path, svid.token.as_bytes(), 0o600).map_err(failed)?;
            Ok(Answer::new(json, format!("Wrote {}", path.display())))
        }
    }
}
