//! Fetches of what the attestor holds already, against an echo on the same connection.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chancery_proto::workload::{JwtsvidRequest, X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    ROUNDS,
    figure::{Figure, Target},
    memory,
};
use crate::{
    playground::{Attest, Options, Playground},
    process::until,
};

/// Calls of each kind in one turn; a round has two turns.
const CALLS: usize = 1000;
/// How long the first identity may take.
const FIRST_IDENTITY: Duration = Duration::from_secs(15);
/// Entries of the node in the last figure.
const MANY: usize = 100_000;
/// How long the node may take to hear of all of them.
const ALL_TOLD: Duration = Duration::from_secs(180);
/// At most this many times the echo.
const TARGET: Target = Target::AtMost(2.0);

/// The figures of both kinds of SVID.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let folder = tempfile::Builder::new().prefix("chancery-bench-").tempdir().map_err(|e| e.to_string())?;
    let options = Options { attest: Attest::JoinToken, ..Options::new(folder.path().join("playground")) };
    let playground = Playground::start(&options)?;
    let machine = playground.machines.first().ok_or("no node")?;
    let id = format!("spiffe://{}/bench", playground.trust_domain);
    let uid = format!("unix:uid:{}", geteuid().as_raw());
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--parent-id", &machine.spiffe_id, "--spiffe-id", &id, "--selector", &uid])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut caller = runtime.block_on(Caller::connect(&machine.workload_socket))?;
    until(FIRST_IDENTITY, || runtime.block_on(async { caller.x509().await.and(caller.jwt().await) }))?;
    let mut figures = runtime.block_on(rounds(&mut caller))?;
    figures.push(with_many(&playground, &mut caller, &runtime)?);
    Ok(figures)
}

/// The same fetch on a node that may serve a hundred thousand entries to others.
fn with_many(playground: &Playground, caller: &mut Caller, runtime: &Runtime) -> Result<Figure, String> {
    let machine = playground.machines.first().ok_or("no node")?;
    let before = runtime.block_on(halves(caller))?;
    memory::register_many(playground, &machine.spiffe_id, MANY)?;
    // Made last, told last.
    let (last, uid) = (format!("spiffe://{}/last", playground.trust_domain), geteuid().as_raw());
    let uid = format!("unix:uid:{uid}");
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--entry-id", "last", "--parent-id", &machine.spiffe_id, "--spiffe-id", &last, "--selector", &uid])?;
    until(ALL_TOLD, || match runtime.block_on(caller.svids())? {
        2.. => Ok(()),
        _ => Err(format!("the node was not told of all {MANY} entries")),
    })?;
    playground.ca(&["entry", "delete", "last"])?;
    until(ALL_TOLD, || match runtime.block_on(caller.svids())? {
        1 => Ok(()),
        _ => Err("the last entry is still served".into()),
    })?;
    let after = runtime.block_on(halves(caller))?;
    let ratios = before.iter().zip(&after).map(|(before, after)| after / before).collect();
    let note = format!("last round: {:.0} and {:.0} us", before[ROUNDS - 1] * 1e6, after[ROUNDS - 1] * 1e6);
    Figure::new("fetch p50, 100,000 entries / 1", "", Target::AtMost(1.1), ratios, note)
}

/// Seconds half of the fetches take, of each round.
async fn halves(caller: &mut Caller) -> Result<Vec<f64>, String> {
    let mut halves = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let began = Instant::now();
            caller.x509().await?;
            times.push(began.elapsed());
        }
        halves.push(percentile(&mut times, 50).as_secs_f64());
    }
    Ok(halves)
}

async fn rounds(caller: &mut Caller) -> Result<Vec<Figure>, String> {
    let (mut x509, mut jwt) = (Ratios::default(), Ratios::default());
    for _ in 0..ROUNDS {
        let (mut echoes, mut x509s, mut jwts) = (Vec::new(), Vec::new(), Vec::new());
        // There and back again: what changes meanwhile hits every kind alike.
        for kind in [0, 1, 2, 2, 1, 0] {
            for _ in 0..CALLS {
                let began = Instant::now();
                match kind {
                    0 => caller.echo().await?,
                    1 => caller.x509().await?,
                    _ => caller.jwt().await?,
                }
                let took = began.elapsed();
                [&mut echoes, &mut x509s, &mut jwts][kind].push(took);
            }
        }
        x509.add(&mut x509s, &mut echoes);
        jwt.add(&mut jwts, &mut echoes);
    }
    Ok(vec![x509.figure("cached FetchX509SVID p99 / echo p99")?, jwt.figure("cached FetchJWTSVID p99 / echo p99")?])
}

/// Rounds of one kind of fetch.
#[derive(Default)]
struct Ratios {
    p99: Vec<f64>,
    note: String,
}

impl Ratios {
    fn add(&mut self, fetches: &mut [Duration], echoes: &mut [Duration]) {
        let (fetch, echo) = (percentile(fetches, 99), percentile(echoes, 99));
        self.p99.push(fetch.as_secs_f64() / echo.as_secs_f64());
        let (half, echo_half) = (percentile(fetches, 50), percentile(echoes, 50));
        self.note = format!(
            "last round: fetch p50 {} p99 {}, echo p50 {} p99 {} us",
            half.as_micros(),
            fetch.as_micros(),
            echo_half.as_micros(),
            echo.as_micros()
        );
    }

    fn figure(self, name: &'static str) -> Result<Figure, String> {
        Figure::new(name, "", TARGET, self.p99, self.note)
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[times.len() * percent / 100]
}

/// One connection, as an agent has it.
struct Caller {
    api: SpiffeWorkloadApiClient<Channel>,
    health: HealthClient<Channel>,
}

impl Caller {
    async fn connect(socket: &Path) -> Result<Self, String> {
        let path = PathBuf::from(socket);
        let dial = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://bench").connect_with_connector(dial).await;
        let channel = channel.map_err(|e| format!("{}: {e}", socket.display()))?;
        Ok(Self { api: SpiffeWorkloadApiClient::new(channel.clone()), health: HealthClient::new(channel) })
    }

    async fn echo(&mut self) -> Result<(), String> {
        self.health.check(HealthCheckRequest::default()).await.map(drop).map_err(|e| format!("echo: {e}"))
    }

    /// Until the first message is there: that is what an agent waits for.
    async fn x509(&mut self) -> Result<(), String> {
        let answer = self.api.fetch_x509svid(with_header(X509svidRequest {})).await;
        let mut stream = answer.map_err(|e| format!("FetchX509SVID: {e}"))?.into_inner();
        let message = stream.message().await.map_err(|e| format!("FetchX509SVID: {e}"))?;
        message.filter(|m| !m.svids.is_empty()).map(drop).ok_or_else(|| "FetchX509SVID: no SVID".into())
    }

    /// How many identities the caller has.
    async fn svids(&mut self) -> Result<usize, String> {
        let answer = self.api.fetch_x509svid(with_header(X509svidRequest {})).await;
        let message = answer.map_err(|e| format!("FetchX509SVID: {e}"))?.into_inner().message().await;
        Ok(message.map_err(|e| format!("FetchX509SVID: {e}"))?.map_or(0, |message| message.svids.len()))
    }

    async fn jwt(&mut self) -> Result<(), String> {
        let asked = JwtsvidRequest { audience: vec!["bench".into()], spiffe_id: String::new() };
        let answer = self.api.fetch_jwtsvid(with_header(asked)).await;
        answer.map(drop).map_err(|e| format!("FetchJWTSVID: {e}"))
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    request
}
