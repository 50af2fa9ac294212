//! The phases of a mode that makes one kind of call: warm-up, echo, load, echo, summary.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Common,
    echo::{Echo, EchoCall},
    pace::{Call, Pace, run},
    report::{Done, Phase, Reporter},
    stats::Tally,
};

/// Calls that an echo can be made to resemble.
pub trait Measured: Call {
    /// Bytes of the last request and of its answer, encoded.
    fn sizes(&self) -> (usize, usize);
}

/// Over what the echo is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP and mTLS.
    Mtls,
    /// A UNIX socket.
    Unix,
}

/// How a mode makes its calls.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub pace: Pace,
    pub transport: Transport,
    /// Connections the calls go over; the echo gets as many.
    pub connections: usize,
}

/// Runs all phases; `more` are fields of the line of the load.
///
/// # Errors
/// Every call of the warm-up failed, or the echo does not start.
pub async fn measure<C: Measured>(
    call: C,
    plan: Plan,
    common: &Common,
    reporter: &mut Reporter,
    stop: &CancellationToken,
    more: Value,
) -> Result<(), String> {
    let call = Arc::new(call);
    let name = call.name();
    if !common.warm_up.is_zero() {
        let phase = reporter.begin("warm-up");
        let tally = run(&call, plan.pace, common.warm_up, stop).await;
        hopeful(name, &tally)?;
        reporter.end(&phase, tally, json!({}));
    }
    let echo = match common.echo.is_zero() || stop.is_cancelled() {
        true => None,
        false => Some(Calibration::new(plan.transport, plan.connections, plan.pace, call.sizes()).await?),
    };
    let mut echoed = Tally::default();
    let mut cpu = None;
    let mut calibrate = async |reporter: &mut Reporter| {
        if let Some(echo) = &echo {
            let done = echo.phase(common.echo, reporter, stop).await;
            echoed.merge(&done.tally);
            cpu = done.server_cpu.map(|more| more + cpu.unwrap_or_default());
        }
    };
    calibrate(reporter).await;
    let phase = reporter.begin(name);
    let tally = run(&call, plan.pace, common.lasting, stop).await;
    let done = reporter.end(&phase, tally, with_pace(more, plan));
    calibrate(reporter).await;
    let echoed = echo.is_some().then_some(Done { tally: echoed, server_cpu: cpu });
    reporter.summary(name, &done, echoed.as_ref(), json!({}));
    hopeful(name, &done.tally)
}

/// An echo, and how it is called.
pub struct Calibration {
    echo: Echo,
    call: Arc<EchoCall>,
    pace: Pace,
}

impl Calibration {
    /// An echo over so many connections; `sizes` are bytes there and back.
    ///
    /// # Errors
    /// It does not start.
    pub async fn new(
        transport: Transport,
        connections: usize,
        pace: Pace,
        (request, answer): (usize, usize),
    ) -> Result<Self, String> {
        let echo = match transport {
            Transport::Mtls => Echo::over_tls().await?,
            Transport::Unix => Echo::over_socket().await?,
        };
        let links = echo.links(connections).await?;
        Ok(Self { echo, call: Arc::new(EchoCall::new(links, request, answer)), pace })
    }

    /// Calls it for so long; a phase of its own.
    pub async fn phase(&self, lasting: Duration, reporter: &mut Reporter, stop: &CancellationToken) -> Done {
        let pids: Vec<u32> = self.echo.pid().into_iter().collect();
        let phase = Phase::begin(crate::echo::NAME, &pids);
        let tally = run(&self.call, self.pace, lasting, stop).await;
        reporter.end(&phase, tally, json!({ "loop": self.pace.name() }))
    }
}

fn with_pace(mut more: Value, plan: Plan) -> Value {
    more["loop"] = json!(plan.pace.name());
    match plan.pace {
        Pace::Closed { in_flight } => more["in_flight"] = json!(in_flight),
        Pace::Open { rate, in_flight } => {
            more["rate"] = json!(rate);
            more["in_flight_most"] = json!(in_flight);
        }
    }
    more["connections"] = json!(plan.connections);
    more
}

/// A phase in which nothing succeeded is no measurement.
fn hopeful(name: &str, tally: &Tally) -> Result<(), String> {
    match (tally.calls, tally.failures()) {
        (0, failed @ 1..) => {
            Err(format!("{name}: all {failed} calls failed: {:?}; see the server's log", tally.errors))
        }
        _ => Ok(()),
    }
}
