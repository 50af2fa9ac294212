//! The command line: `run` and `migrate` with a configuration, everything else over the admin socket.
//!
//! Exit codes: 0 done, 1 refused or failed with one line that says what to do, 2 usage.

mod admin;
mod answer;
mod audit;
mod authority;
mod bound;
mod bundle;
mod ceremony;
mod client;
mod entry;
mod evidence;
mod failure;
mod files;
mod hold;
mod json;
mod mint;
mod node;
mod pretty;
mod proposal;
mod revoke;
mod serve;
mod trace;
mod value;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::{answer::Answer, client::Client, failure::Failure};

/// Where the admin socket is when nobody says.
const DEFAULT_SOCKET: &str = "/run/chancery/ca/admin.sock";

const EXAMPLES: &str = "\
Examples:
  chancery-ca migrate --config /etc/chancery/ca.toml
  chancery-ca run --config /etc/chancery/ca.toml
  chancery-ca node enrol --ek 3f6c...e1
  chancery-ca entry create --parent-id spiffe://example.org/spire/server --spiffe-id spiffe://example.org/fleet --selector tpm:enrolled:yes
  chancery-ca class create --parent-id spiffe://example.org/fleet --name finance/refund-agent --selector unix:uid:1000
  chancery-ca instance list --output json
  chancery-ca hold place --instance spiffe://example.org/agent/refund/0189... --for 10m --reason 'looks odd'
  chancery-ca revoke --instance spiffe://example.org/agent/refund/0189... --reason 'key leaked'
  chancery-ca audit list --follow
  chancery-ca trace 4be1...9c --config /etc/chancery/ca.toml";

/// The Chancery certificate authority.
#[derive(Debug, Parser)]
#[command(name = "chancery-ca", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Admin socket of the running CA; else the one in --config, else /run/chancery/ca/admin.sock
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, global = true, value_enum, default_value_t = Output::Pretty, ignore_case = true)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// One line of JSON, as SPIRE's
    Json,
    /// For people
    Pretty,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the CA; needs --config
    Run,
    /// Bring the database to this program's schema; needs --config
    Migrate,
    /// Make a root, a CA that a root signs, a cross-certificate or a CRL, offline; needs --config
    Ceremony(ceremony::CeremonyArgs),
    /// Accept a database that was restored from an old backup; needs --config and a CA that is stopped
    RestoreAccept,
    /// Say whether the CA serves
    Healthcheck,
    /// Registration entries
    #[command(subcommand)]
    Entry(entry::Command),
    /// Agent classes
    #[command(subcommand)]
    Class(admin::ClassCommand),
    /// Instances of agent classes
    #[command(subcommand)]
    Instance(admin::InstanceCommand),
    /// Kill switch: nobody gets or accepts any more what this was given
    Revoke(revoke::RevokeArgs),
    /// Give one instance nothing new for at most 15 minutes, and have its peers refuse it
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// What detectors propose: judge it
    #[command(subcommand)]
    Proposal(proposal::ProposalCommand),
    /// How long somebody may still accept what was revoked, by the configuration; needs --config
    Bound(bound::BoundArgs),
    /// What is revoked
    #[command(subcommand)]
    Revocation(revoke::RevocationCommand),
    /// Nodes and devices
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Manufacturer CAs
    #[command(subcommand)]
    Anchor(node::AnchorCommand),
    /// Measured-boot policies
    #[command(subcommand)]
    Policy(node::PolicyCommand),
    /// Bundles, our own and other trust domains'
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Authorities and their keys
    #[command(subcommand)]
    Authority(authority::Command),
    /// Join tokens
    #[command(subcommand)]
    Token(node::TokenCommand),
    /// X509-SVIDs for operators
    #[command(subcommand)]
    X509(mint::X509Command),
    /// JWT-SVIDs for operators
    #[command(subcommand)]
    Jwt(mint::JwtCommand),
    /// The record
    #[command(subcommand)]
    Audit(admin::AuditCommand),
    /// Print what the record has of an ID, a process, a serial or a request, with proofs; needs --config
    Trace(trace::TraceArgs),
}

/// Parses the arguments, does the command, says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads stderr any more: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "Error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Run => serve::run(&cli.common),
        Command::Migrate => serve::migrate(&cli.common),
        Command::Ceremony(args) => ceremony::run(&cli.common, &args),
        Command::RestoreAccept => serve::restore_accept(&cli.common),
        Command::Bound(args) => bound::run(&cli.common, &args),
        Command::Trace(args) => trace::run(&cli.common, &args),
        Command::Audit(admin::AuditCommand::Evidence(args)) => evidence::run(&cli.common, &args),
        Command::Audit(admin::AuditCommand::Key) => audit::key(&cli.common),
        Command::Audit(admin::AuditCommand::Verify { since }) => audit::verify(&cli.common, since.as_deref()),
        other => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Failure::refused(format!("cannot start: {e}")))?;
            runtime.block_on(ask(&cli.common, other))
        }
    }
}

async fn ask(common: &Common, command: Command) -> Result<(), Failure> {
    let client = Client::connect(&socket(common)?).await?;
    let answer = match command {
        Command::Bound(_)
        | Command::Ceremony(_)
        | Command::Migrate
        | Command::RestoreAccept
        | Command::Run
        | Command::Trace(_) => {
            return Err(Failure::refused("not a command of the admin socket".into()));
        }
        Command::Healthcheck => node::healthcheck(&client).await?,
        Command::Entry(command) => entry::run(&client, command).await?,
        Command::Class(command) => admin::class(&client, command).await?,
        Command::Instance(command) => admin::instance(&client, command).await?,
        Command::Hold(command) => hold::run(&client, command).await?,
        Command::Proposal(command) => proposal::run(&client, command).await?,
        Command::Revoke(args) => revoke::revoke(&client, args).await?,
        Command::Revocation(command) => revoke::revocation(&client, command).await?,
        Command::Node(command) => node::node(&client, command).await?,
        Command::Anchor(command) => node::anchor(&client, command).await?,
        Command::Policy(command) => node::policy(&client, command).await?,
        Command::Bundle(command) => bundle::run(&client, command).await?,
        Command::Authority(command) => authority::run(&client, command).await?,
        Command::Token(command) => node::token(&client, command).await?,
        Command::X509(command) => mint::x509(&client, command).await?,
        Command::Jwt(command) => mint::jwt(&client, command).await?,
        Command::Audit(command) => return admin::audit(&client, command).await,
    };
    print(answer, common.output)
}

/// `--socket`, else the configuration's, else the default.
fn socket(common: &Common) -> Result<PathBuf, Failure> {
    match (&common.socket, &common.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(_)) => Ok(serve::config(common)?.admin_socket),
        (None, None) => Ok(DEFAULT_SOCKET.into()),
    }
}

fn print(answer: Answer, output: Output) -> Result<(), Failure> {
    let mut text = match output {
        Output::Json => answer.json.to_string(),
        Output::Pretty => answer.pretty,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    write(text.as_bytes())?;
    answer.refused.map_or(Ok(()), Err)
}

/// Writes to stdout; a reader that went away is no failure of ours.
fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot write the answer: {e}")))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
