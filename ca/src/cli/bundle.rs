//! `bundle show|list|set|delete`.

use std::path::PathBuf;

use chancery_proto::spire::api::{
    server::bundle::v1::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, GetBundleRequest,
        ListFederatedBundlesRequest, batch_delete_federated_bundle_request,
    },
    types::{self, JwtKey, X509Certificate},
};
use chancery_sdk::{bundle, id::TrustDomain, jwt::JwtBundle, x509::X509Bundle};
use clap::{Subcommand, ValueEnum};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::{Answer, Client, Failure, files, json, value};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show our own bundle
    #[command(after_help = "Example:\n  chancery-ca bundle show --format spiffe > bundle.json")]
    Show {
        /// Form of the bundle
        #[arg(long, value_enum, default_value_t = Format::Pem)]
        format: Format,
    },
    /// List other trust domains' bundles
    List {
        /// Only this one
        #[arg(long, value_parser = value::domain, value_name = "TRUST_DOMAIN")]
        trust_domain: Option<String>,
        /// Form of the bundles
        #[arg(long, value_enum, default_value_t = Format::Pem)]
        format: Format,
    },
    /// Store another trust domain's bundle
    #[command(after_help = "Example:\n  chancery-ca bundle set --trust-domain partner.example --path partner.json")]
    Set {
        /// Whose bundle it is
        #[arg(long, value_parser = value::domain, value_name = "TRUST_DOMAIN")]
        trust_domain: String,
        /// File with the bundle; - reads standard input
        #[arg(long, value_name = "FILE")]
        path: PathBuf,
        /// Form of the file; default: as it looks
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Delete another trust domain's bundle
    Delete {
        /// Whose bundle it is
        #[arg(long, value_parser = value::domain, value_name = "TRUST_DOMAIN")]
        trust_domain: String,
        /// What becomes of entries that federate with it
        #[arg(long, value_enum, default_value_t = Mode::Restrict)]
        mode: Mode,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// Certificates only
    Pem,
    /// The SPIFFE bundle document
    Spiffe,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// Delete them too
    Delete,
    /// They lose the association
    Dissociate,
    /// Refuse while there are any
    Restrict,
}

pub async fn run(client: &Client, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Show { format } => {
            let bundle = own(client).await?;
            let text = written(&bundle, format)?;
            Ok(Answer::new(json::bundle(&bundle), text))
        }
        Command::List { trust_domain, format } => list(client, trust_domain, format).await,
        Command::Set { trust_domain, path, format } => set(client, &trust_domain, &path, format).await,
        Command::Delete { trust_domain, mode } => delete(client, trust_domain, mode).await,
    }
}

/// The CA's own bundle.
pub async fn own(client: &Client) -> Result<types::Bundle, Failure> {
    Ok(client.bundle().get_bundle(GetBundleRequest { output_mask: None }).await?.into_inner())
}

async fn list(client: &Client, only: Option<String>, format: Format) -> Result<Answer, Failure> {
    // Without a page size everything comes at once.
    let answer = client.bundle().list_federated_bundles(ListFederatedBundlesRequest::default()).await?.into_inner();
    let mut bundles = answer.bundles;
    if let Some(only) = &only {
        bundles.retain(|bundle| &bundle.trust_domain == only);
        let [bundle] = bundles.as_slice() else {
            return Err(Failure::refused(format!("no bundle of {only} is stored; `bundle set` stores one")));
        };
        return Ok(Answer::new(json::bundle(bundle), written(bundle, format)?));
    }
    let mut text = String::new();
    for bundle in &bundles {
        let line = "*".repeat(bundle.trust_domain.len() + 4);
        text.push_str(&format!("{line}\n* {} *\n{line}\n{}\n", bundle.trust_domain, written(bundle, format)?));
    }
    let json = json!({ "bundles": bundles.iter().map(json::bundle).collect::<Vec<_>>(), "next_page_token": "" });
    Ok(Answer::new(json, text))
}

async fn set(client: &Client, name: &str, path: &std::path::Path, format: Option<Format>) -> Result<Answer, Failure> {
    let text = if path == std::path::Path::new("-") { files::stdin()? } else { files::text(path)? };
    let bundle = read(name, &text, format)?;
    let request = BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
    let mut answer = client.bundle().batch_set_federated_bundle(request).await?.into_inner();
    let result = answer.results.pop().unwrap_or_default();
    value::accepted(result.status.clone())?;
    let shown = result.bundle.as_ref().map_or(Value::Null, json::bundle);
    Ok(Answer::new(json::results(vec![(result.status, "bundle", shown)]), "bundle set."))
}

async fn delete(client: &Client, trust_domain: String, mode: Mode) -> Result<Answer, Failure> {
    let mode = match mode {
        Mode::Delete => batch_delete_federated_bundle_request::Mode::Delete,
        Mode::Dissociate => batch_delete_federated_bundle_request::Mode::Dissociate,
        Mode::Restrict => batch_delete_federated_bundle_request::Mode::Restrict,
    };
    let request = BatchDeleteFederatedBundleRequest { trust_domains: vec![trust_domain], mode: mode.into() };
    let mut answer = client.bundle().batch_delete_federated_bundle(request).await?.into_inner();
    let result = answer.results.pop().unwrap_or_default();
    value::accepted(result.status.clone())?;
    let name = Value::String(result.trust_domain);
    Ok(Answer::new(json::results(vec![(result.status, "trust_domain", name)]), "bundle deleted."))
}

/// A bundle in one of its forms.
pub fn written(wire: &types::Bundle, format: Format) -> Result<String, Failure> {
    let bundle = vocabulary(wire)?;
    match format {
        Format::Pem => Ok(bundle.x509.to_pem()),
        Format::Spiffe => {
            let text = String::from_utf8(bundle.to_json());
            let mut text = text.map_err(|_| Failure::refused("the bundle is no UTF-8".into()))?;
            text.push('\n');
            Ok(text)
        }
    }
}

fn vocabulary(wire: &types::Bundle) -> Result<bundle::Bundle, Failure> {
    let wrong =
        |e: &dyn std::fmt::Display| Failure::refused(format!("the CA's bundle of '{}': {e}", wire.trust_domain));
    let domain = TrustDomain::new(&wire.trust_domain).map_err(|e| wrong(&e))?;
    let mut x509 = X509Bundle::new(domain.clone());
    for authority in &wire.x509_authorities {
        x509.insert(CertificateDer::from(authority.asn1.clone())).map_err(|e| wrong(&e))?;
    }
    let mut jwt = JwtBundle::new(domain.clone());
    for key in &wire.jwt_authorities {
        jwt.insert(&key.key_id, &key.public_key).map_err(|e| wrong(&e))?;
    }
    let mut bundle = bundle::Bundle::new(domain);
    (bundle.x509, bundle.jwt) = (x509, jwt);
    bundle.sequence = Some(wire.sequence_number);
    bundle.refresh_hint = u64::try_from(wire.refresh_hint).ok().filter(|hint| *hint > 0);
    Ok(bundle)
}

/// Reads an operator's file.
fn read(name: &str, text: &str, format: Option<Format>) -> Result<types::Bundle, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::refused(format!("bundle of {name}: {e}"));
    let domain = TrustDomain::new(name).map_err(|e| wrong(&e))?;
    let looks = if text.trim_start().starts_with('{') { Format::Spiffe } else { Format::Pem };
    let bundle = match format.unwrap_or(looks) {
        Format::Spiffe => bundle::Bundle::from_json(domain, text.as_bytes()).map_err(|e| wrong(&e))?,
        Format::Pem => {
            let mut bundle = bundle::Bundle::new(domain.clone());
            bundle.x509 = X509Bundle::from_pem(domain, text).map_err(|e| wrong(&e))?;
            bundle
        }
    };
    let x509 = bundle.x509.authorities().iter().map(|der| X509Certificate { asn1: der.to_vec(), tainted: false });
    let jwt = bundle.jwt.keys().iter().map(|key| JwtKey {
        public_key: key.spki(),
        key_id: key.kid().into(),
        ..JwtKey::default()
    });
    Ok(types::Bundle {
        trust_domain: name.into(),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        refresh_hint: bundle.refresh_hint.and_then(|hint| i64::try_from(hint).ok()).unwrap_or_default(),
        sequence_number: bundle.sequence.unwrap_or_default(),
        wit_authorities: Vec::new(),
    })
}
