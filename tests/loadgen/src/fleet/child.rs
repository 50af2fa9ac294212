//! A crew in another process of this program: orders in by a line each, answers out the same way.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Crew, Order, Setting};
use crate::capacity::Limits;

/// The starter's end.
pub(super) struct Child {
    /// Killed when this is dropped.
    _process: Process,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    stop: CancellationToken,
}

impl Child {
    pub(super) async fn start(setting: &Setting, stop: CancellationToken) -> Result<Self, String> {
        let say = |e: std::io::Error| format!("another process of this program: {e}");
        let mut command = Command::new(std::env::current_exe().map_err(say)?);
        command.arg("crew").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C goes to the whole group of the terminal; a crew is stopped by its starter.
        command.process_group(0);
        let mut process = command.spawn().map_err(say)?;
        let orders = process.stdin.take().ok_or("a crew without input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("a crew without output")?).lines();
        let mut this = Self { _process: process, orders, answers, stop };
        this.send(setting).await?;
        Ok(this)
    }

    /// Gives an order and waits for its answer; a stop is passed on, and the answer comes all the sooner.
    pub(super) async fn order(&mut self, order: &Order) -> Result<Answer, String> {
        self.send(order).await?;
        let mut told = false;
        loop {
            let stop = self.stop.clone();
            let line = tokio::select! {
                line = self.answers.next_line() => line,
                () = stop.cancelled(), if !told => {
                    told = true;
                    self.send(&Order::Stop).await?;
                    continue;
                }
            };
            let gone = || "a process of the fleet ended; was it killed, or out of memory?".to_owned();
            let line = line.map_err(|_| gone())?.ok_or_else(gone)?;
            return serde_json::from_str(&line).map_err(|e| format!("a process of the fleet answered nonsense: {e}"));
        }
    }

    async fn send(&mut self, message: &impl serde::Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|e| e.to_string())?;
        line.push(b'\n');
        self.orders.write_all(&line).await.map_err(|e| format!("a process of the fleet ended: {e}"))
    }
}

/// Is a crew: reads orders from standard input until it ends.
///
/// # Errors
/// A line that is no order, or an answer that nobody takes.
pub async fn obey() -> Result<(), String> {
    Limits::of_this_machine();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let Some(setting) = lines.next_line().await.map_err(|e| e.to_string())? else { return Ok(()) };
    let setting: Setting = serde_json::from_str(&setting).map_err(|e| format!("the setting: {e}"))?;
    let mut crew = Crew::new(&setting)?;
    let stop = CancellationToken::new();
    let (sender, mut orders) = mpsc::channel(4);
    let reading = tokio::spawn(read(lines, sender, stop.clone()));
    let mut out = tokio::io::stdout();
    while let Some(order) = orders.recv().await {
        let mut answer = serde_json::to_vec(&crew.obey(order, &stop).await).map_err(|e| e.to_string())?;
        answer.push(b'\n');
        out.write_all(&answer).await.map_err(|e| e.to_string())?;
        out.flush().await.map_err(|e| e.to_string())?;
    }
    reading.await.map_err(|e| e.to_string())?
}

/// Passes orders on; a stop does not wait for the order before it.
async fn read(
    mut lines: Lines<BufReader<tokio::io::Stdin>>,
    orders: mpsc::Sender<Order>,
    stop: CancellationToken,
) -> Result<(), String> {
    while let Some(line) = lines.next_line().await.map_err(|e| e.to_string())? {
        // Not shown: orders carry tokens.
        match serde_json::from_str(&line).map_err(|e| format!("a line is no order: {e}"))? {
            Order::Stop => stop.cancel(),
            order => drop(orders.send(order).await),
        }
    }
    // The starter is gone: what is under way is for nobody.
    stop.cancel();
    Ok(())
}
