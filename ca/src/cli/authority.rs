//! `authority show|csr|import|prepare|activate|taint|revoke`.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};

use chancery_proto::{
    chancery::admin::v1::{
        Authority, ImportAuthorityRequest, ListAuthoritiesResponse, RequestAuthorityRequest, RequestAuthorityResponse,
    },
    spire::api::server::localauthority::v1::{self as pb, AuthorityState},
};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Answer, Client, Failure, files, json, pretty};
use crate::keys::file;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    /// Signs JWT-SVIDs
    Jwt,
    /// Signs X509-SVIDs
    X509,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every server's authorities and keys
    Show,
    /// Print the request that a ceremony is to sign; needs `upstream.kind = "offline"`
    #[command(after_help = "\
The key is made in this server's key store and stays there. Asked again, the request of the same key is
printed, until its certificate is imported. Carry the key's SHA-256 on another way than the file.

Examples:
  chancery-ca authority csr --write ca.csr
  chancery-ca authority csr --new --write ca-2.csr")]
    Csr {
        /// A request of a new key; the open one is given up, and a certificate for it is refused from then on
        #[arg(long)]
        new: bool,
        /// Write the request to a new file, and print the key's hash alone
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// Take the certificate that came back from the ceremony: published, and signing when its turn comes
    #[command(after_help = "\
Where no authority signs yet, it does at once; else at 5/6 of the active one's life, or by `authority activate`.

Examples:
  chancery-ca authority import --chain ca.pem --bundle root.pem
  cat ca.pem root.pem > chain.pem && chancery-ca authority import --chain chain.pem")]
    Import {
        /// PEM: the certificate, then those up to a root; the root may be the last
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// PEM: the roots that the trust domain publishes; else the last certificate of the chain
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Make this server's next authority: published, not signing yet
    #[command(after_help = "Example:\n  chancery-ca authority prepare x509")]
    Prepare {
        /// What it will sign
        #[arg(value_enum)]
        kind: Kind,
    },
    /// Let the prepared authority sign; the one that signed becomes old
    Activate {
        /// As `authority show` prints it
        #[arg(value_name = "AUTHORITY_ID")]
        id: String,
        /// Do not wait until consumers of the bundle had time to take it up
        #[arg(long)]
        now: bool,
    },
    /// Say that an authority's key is not to be trusted: everything it signed is replaced at once
    #[command(after_help = "\
This server's own authority is tainted once it is old: prepare and activate another one first.
Another server's authority is tainted in any state, so that a dead server's can be.

Example:
  chancery-ca authority taint 5f0c...a1")]
    Taint {
        /// As `authority show` prints it
        #[arg(value_name = "AUTHORITY_ID")]
        id: String,
        /// Do not ask for the hash of the key
        #[arg(long)]
        yes: bool,
    },
    /// Take a tainted authority out of the bundle: nothing it signed is accepted any more
    Revoke {
        /// As `authority show` prints it
        #[arg(value_name = "AUTHORITY_ID")]
        id: String,
        /// Do not ask for the hash of the key
        #[arg(long)]
        yes: bool,
    },
}

pub async fn run(client: &Client, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Show => {
            let all = listed(client).await?;
            Ok(Answer::new(json::authorities(&all), pretty::authorities(&all)))
        }
        Command::Csr { new, write } => {
            let asked = client.admin().request_authority(RequestAuthorityRequest { anew: new }).await?.into_inner();
            requested(&asked, write)
        }
        Command::Import { chain, bundle } => {
            let ders = |path: &PathBuf| {
                let read = file::certificates(path).map_err(|e| Failure::refused(e.to_string()))?;
                Ok::<_, Failure>(read.iter().map(|der| der.to_vec()).collect::<Vec<_>>())
            };
            let roots = bundle.as_ref().map(ders).transpose()?.unwrap_or_default();
            let request = ImportAuthorityRequest { chain: ders(&chain)?, roots };
            let made = client.admin().import_authority(request).await?.into_inner();
            let json = json!({ "imported_authority": json::authority(&made) });
            Ok(Answer::new(json, format!("Imported authority:\n{}", pretty::authority(&made))))
        }
        Command::Prepare { kind } => {
            let made = prepare(client, kind).await?;
            Ok(answer("prepared_authority", made, "Prepared"))
        }
        Command::Activate { id, now } => {
            let found = one(client, &id).await?;
            if !now {
                waited(&found)?;
            }
            let active = activate(client, kind(&found)?, id).await?;
            Ok(answer("activated_authority", active, "Activated"))
        }
        Command::Taint { id, yes } => {
            let found = one(client, &id).await?;
            // What is old signs nothing any more; everything else may be in use.
            if !yes && found.state != "old" {
                confirmed(&found, "Tainting", &mut std::io::stdin().lock(), std::io::stdin().is_terminal())?;
            }
            let tainted = taint(client, kind(&found)?, id).await?;
            Ok(answer("tainted_authority", tainted, "Tainted"))
        }
        Command::Revoke { id, yes } => {
            let found = one(client, &id).await?;
            if !yes {
                confirmed(&found, "Revoking", &mut std::io::stdin().lock(), std::io::stdin().is_terminal())?;
            }
            let revoked = revoke(client, kind(&found)?, id).await?;
            Ok(answer("revoked_authority", revoked, "Revoked"))
        }
    }
}

/// The request, on standard output or in a file that did not exist.
fn requested(asked: &RequestAuthorityResponse, write: Option<PathBuf>) -> Result<Answer, Failure> {
    let pem = files::pem("CERTIFICATE REQUEST", &asked.csr);
    let hash = format!("Key SHA-256: {}\n", asked.spki_sha256);
    let pretty = match &write {
        None => format!("{pem}{hash}"),
        Some(path) => {
            file::write_new(path, pem.as_bytes(), 0o644).map_err(|e| Failure::refused(e.to_string()))?;
            hash
        }
    };
    let json = json!({ "csr": pem, "key_label": asked.key_label, "spki_sha256": asked.spki_sha256 });
    Ok(Answer::new(json, pretty))
}

async fn listed(client: &Client) -> Result<ListAuthoritiesResponse, Failure> {
    Ok(client.admin().list_authorities(()).await?.into_inner())
}

async fn one(client: &Client, id: &str) -> Result<Authority, Failure> {
    let all = listed(client).await?.authorities;
    let found = all.into_iter().find(|a| !id.is_empty() && a.authority_id == id);
    found.ok_or_else(|| Failure::refused(format!("no authority '{id}'; `authority show` lists them")))
}

fn kind(authority: &Authority) -> Result<Kind, Failure> {
    Kind::from_str(&authority.kind, false)
        .map_err(|_| Failure::refused(format!("kind '{}' is not known", authority.kind)))
}

async fn prepare(client: &Client, kind: Kind) -> Result<AuthorityState, Failure> {
    let mut client = client.local_authority();
    let made = match kind {
        Kind::Jwt => {
            client.prepare_jwt_authority(pb::PrepareJwtAuthorityRequest {}).await?.into_inner().prepared_authority
        }
        Kind::X509 => {
            client.prepare_x509_authority(pb::PrepareX509AuthorityRequest {}).await?.into_inner().prepared_authority
        }
    };
    told(made)
}

async fn activate(client: &Client, kind: Kind, authority_id: String) -> Result<AuthorityState, Failure> {
    let mut client = client.local_authority();
    told(match kind {
        Kind::Jwt => {
            let request = pb::ActivateJwtAuthorityRequest { authority_id };
            client.activate_jwt_authority(request).await?.into_inner().activated_authority
        }
        Kind::X509 => {
            let request = pb::ActivateX509AuthorityRequest { authority_id };
            client.activate_x509_authority(request).await?.into_inner().activated_authority
        }
    })
}

async fn taint(client: &Client, kind: Kind, authority_id: String) -> Result<AuthorityState, Failure> {
    let mut client = client.local_authority();
    told(match kind {
        Kind::Jwt => {
            let request = pb::TaintJwtAuthorityRequest { authority_id };
            client.taint_jwt_authority(request).await?.into_inner().tainted_authority
        }
        Kind::X509 => {
            let request = pb::TaintX509AuthorityRequest { authority_id };
            client.taint_x509_authority(request).await?.into_inner().tainted_authority
        }
    })
}

async fn revoke(client: &Client, kind: Kind, authority_id: String) -> Result<AuthorityState, Failure> {
    let mut client = client.local_authority();
    told(match kind {
        Kind::Jwt => {
            let request = pb::RevokeJwtAuthorityRequest { authority_id };
            client.revoke_jwt_authority(request).await?.into_inner().revoked_authority
        }
        Kind::X509 => {
            let request = pb::RevokeX509AuthorityRequest { authority_id };
            client.revoke_x509_authority(request).await?.into_inner().revoked_authority
        }
    })
}

fn told(state: Option<AuthorityState>) -> Result<AuthorityState, Failure> {
    state.ok_or_else(|| Failure::refused("the CA's answer names no authority".into()))
}

fn answer(member: &str, state: AuthorityState, word: &str) -> Answer {
    let json: Value = json!({ member: json::authority_state(&state) });
    Answer::new(json, format!("{word} authority:\n{}", pretty::authority_state(&state)))
}

/// Refuses to activate what consumers of the bundle may not have yet: they would refuse what it signs.
fn waited(authority: &Authority) -> Result<(), Failure> {
    let left = authority.publish_delay
        - chancery_daemon::clock::now().since(chancery_sdk::time::UnixTime(authority.published_at));
    if authority.state != "prepared" || left <= 0 {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "authority {} was published less than {} s ago: consumers of the bundle may not have it; wait {left} s, or use --now",
        authority.authority_id, authority.publish_delay
    )))
}

/// An operator types the hash of the key, so that nobody mistrusts another one than meant.
fn confirmed(authority: &Authority, what: &str, input: &mut dyn BufRead, is_terminal: bool) -> Result<(), Failure> {
    let hash = &authority.spki_sha256;
    if !is_terminal {
        return Err(Failure::usage(format!("{what} key {hash} without a terminal needs --yes")));
    }
    let mut out = std::io::stderr().lock();
    let ask = format!(
        "{what} authority {} ({}, {}, of server {}).\nType the SHA-256 of its key to go on: {hash}\n> ",
        authority.authority_id, authority.kind, authority.state, authority.server
    );
    let failed = |e: std::io::Error| Failure::refused(format!("cannot ask: {e}"));
    out.write_all(ask.as_bytes()).and_then(|()| out.flush()).map_err(failed)?;
    let mut typed = String::new();
    input.read_line(&mut typed).map_err(failed)?;
    match typed.trim() == hash && !hash.is_empty() {
        true => Ok(()),
        false => Err(Failure::refused("that is not the hash; nothing was changed".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority {
            authority_id: "aa".into(),
            spki_sha256: "0f".repeat(32),
            state: "active".into(),
            ..Authority::default()
        }
    }

    #[test]
    fn dangerous_acts_want_the_hash_typed_back() {
        let typed = |text: &str| confirmed(&authority(), "Tainting", &mut text.as_bytes(), true);
        assert!(typed(&format!("{}\n", "0f".repeat(32))).is_ok());
        for wrong in ["", "\n", "yes\n", "0f\n"] {
            assert!(typed(wrong).unwrap_err().to_string().contains("nothing was changed"), "{wrong:?}");
        }
        let unknown = Authority { spki_sha256: String::new(), ..authority() };
        assert!(confirmed(&unknown, "Tainting", &mut "\n".as_bytes(), true).is_err());
    }

    #[test]
    fn without_a_terminal_they_want_a_flag() {
        let refused = confirmed(&authority(), "Revoking", &mut "".as_bytes(), false).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("--yes"), "{refused}");
    }

    #[test]
    fn an_authority_just_published_is_activated_later_or_by_a_flag() {
        let now = chancery_daemon::clock::now();
        let published = |ago: i64| Authority {
            state: "prepared".into(),
            published_at: now.plus(-ago).0,
            publish_delay: 30,
            ..authority()
        };
        assert!(waited(&published(40)).is_ok());
        assert!(waited(&published(5)).unwrap_err().to_string().contains("--now"));
    }
}
