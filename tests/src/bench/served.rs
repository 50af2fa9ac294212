//! Issuing as nodes meet it: gRPC, mTLS, the gate, the policy and a durable record, against one signature and one
//! verification by the same provider.
//!
//! The load comes from other processes (`loadgen`, with CSRs made beforehand); what counts is the CA's processor time for
//! each SVID, as the kernel says. `BENCH_ISSUE` (seconds) makes it shorter. Source of the targets: a2 and h.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use sqlx::{Connection, SqliteConnection};

use super::{
    ROUNDS,
    figure::{Figure, Target},
    issue::Bare,
    load::{Lines, load, load_on, size},
};
use crate::{
    demo::hsm::gauge,
    playground::{Attest, Authority, Options, Playground},
    postgres,
    process::until,
};

/// A file system in memory: what is "durable" there costs no disk.
const IN_MEMORY: &str = "/dev/shm";
/// SVIDs under way in the comparisons of records.
const IN_FLIGHT: &str = "64";
/// Longest time the signed record may be behind after a round.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// The figures of batches, of single calls, and of what durability costs.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let folder = folder(&std::env::temp_dir())?;
    let ca = server(folder.path())?;
    let bare = Bare::new()?;
    bare.sign_and_verify()?;
    let (mut batches, mut singles) = (Cost::default(), Cost::default());
    for _ in 0..ROUNDS {
        let before = bare.mean()?;
        let batch = issue(&ca, &["--batch", "32", "--in-flight", "8"])?;
        let single = issue(&ca, &["--batch", "1", "--in-flight", IN_FLIGHT])?;
        // Before and after, so that both sides see the same machine.
        let floor = (before + bare.mean()?) / 2;
        batches.add(floor, &batch)?;
        singles.add(floor, &single)?;
    }
    let durable = durable(&ca)?;
    Ok(vec![
        batches.figure("served: (sign + verify) / CPU, batches of 32", 0.80)?,
        singles.figure("served: (sign + verify) / CPU, single calls", 0.55)?,
        durable,
        three()?,
    ])
}

/// Three servers on one PostgreSQL, all issuing, against one of them: they share its counter, and here also its machine.
fn three() -> Result<Figure, String> {
    const NAME: &str = "three servers on PostgreSQL / one, rate at 64";
    let folder = folder(&std::env::temp_dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let db = runtime.block_on(postgres::database());
    let (nodes, attest, servers) = (0, Attest::JoinToken, 3);
    let ca = Playground::start(&Options { nodes, attest, servers, db, ..Options::new(folder.path().join("three")) })?;
    let rate = |server: &Authority| {
        let time = format!("{}s", size("BENCH_ISSUE", 5)?);
        let how =
            ["issue", "--for", &time, "--warm-up", "1s", "--echo", "0s", "--batch", "1", "--in-flight", IN_FLIGHT];
        load_on(&ca.bin, server, &ca.authority, &how)?.number("issue", &["items_per_second"])
    };
    let (mut ratios, mut note) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let one = rate(&ca.authority)?;
        let all = thread::scope(|scope| -> Result<f64, String> {
            let each: Vec<_> = ca.servers().map(|server| scope.spawn(|| rate(server))).collect();
            each.into_iter().map(|one| one.join().map_err(|_| "the load panicked".to_owned())?).sum()
        })?;
        ratios.push(all / one);
        note = format!("last round: {one:.0} SVIDs a second by one, {all:.0} by three");
    }
    Figure::new(NAME, "", Target::Open, ratios, note)
}

/// The rate with the database on disk against the rate with it in memory, in turns.
fn durable(on_disk: &Playground) -> Result<Figure, String> {
    const NAME: &str = "records on disk / in memory, rate at 64";
    let folder = folder(Path::new(IN_MEMORY))?;
    let in_memory = server(folder.path())?;
    let (mut ratios, mut note) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let (first, memory, again) = (rate(on_disk)?, rate(&in_memory)?, rate(on_disk)?);
        let disk = f64::midpoint(first, again);
        ratios.push(disk / memory);
        note = format!("last round: {disk:.0} and {memory:.0} SVIDs a second");
    }
    Figure::new(NAME, "", Target::AtLeast(0.95), ratios, note)
}

/// The rate with the signed record against the rate with `log.enabled = false`, in turns: ratio of the medians.
///
/// Both write the same events to a database on disk; what differs is the tree behind them, its tiles and checkpoints.
pub(super) fn logged() -> Result<Vec<Figure>, String> {
    const NAME: &str = "signed record / none, rate at 64";
    let (folder, other) = (folder(&std::env::temp_dir())?, folder(&std::env::temp_dir())?);
    let (on, mut off) = (server(folder.path())?, server(other.path())?);
    without_log(&mut off)?;
    let (mut with, mut without, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each is first as often as the other, but for the odd round.
        if round % 2 == 1 {
            without.push(rate(&off)?);
        }
        with.push(rate(&on)?);
        // What is still to be signed is not to be signed at the cost of the other one's round.
        behind.push(caught_up(&on)?.as_secs_f64());
        if round % 2 == 0 {
            without.push(rate(&off)?);
        }
    }
    // Who waited above saw the other one sign.
    let signed = gauge::sum(off.authority.metrics, "chancery_ca_log_checkpoints_total", "")?;
    if signed != 0 {
        return Err(format!("the server without a signed record signed {signed} checkpoints"));
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (on, off, behind) = (median(&mut with), median(&mut without), median(&mut behind));
    let note = format!(
        "medians {on:.0} ({:.0} to {:.0}) and {off:.0} ({:.0} to {:.0}) SVIDs a second; checkpoint {behind:.1} s after a round",
        with[0],
        with[ROUNDS - 1],
        without[0],
        without[ROUNDS - 1]
    );
    Ok(vec![Figure::new(NAME, "", Target::AtLeast(0.95), vec![on / off], note)?])
}

/// Starts the CA again so that it signs no record.
fn without_log(ca: &mut Playground) -> Result<(), String> {
    let config = &ca.authority.config;
    let text = fs::read_to_string(config).map_err(|e| e.to_string())?;
    fs::write(config, format!("{text}\n[log]\nenabled = false\n")).map_err(|e| e.to_string())?;
    ca.authority.restart()
}

/// How long until a checkpoint covers every event there is now.
fn caught_up(ca: &Playground) -> Result<Duration, String> {
    let began = Instant::now();
    // The gauge of events is set now and then: the database knows it at once.
    let database = format!("sqlite:{}", ca.authority.database);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let newest: i64 = runtime
        .block_on(async {
            let mut connection = SqliteConnection::connect(&database).await?;
            sqlx::query_scalar("SELECT MAX(number) FROM events").fetch_one(&mut connection).await
        })
        .map_err(|e: sqlx::Error| format!("{database}: {e}"))?;
    until(CAUGHT_UP_WITHIN, || match gauge::sum(ca.authority.metrics, "chancery_ca_log_size", "")? {
        size if size > newest => Ok(()),
        size => Err(format!("the signed record has {size} events of {}", newest + 1)),
    })?;
    Ok(began.elapsed())
}

/// SVIDs a second by single calls.
fn rate(ca: &Playground) -> Result<f64, String> {
    issue(ca, &["--batch", "1", "--in-flight", IN_FLIGHT])?.number("issue", &["items_per_second"])
}

/// One kind of call, round by round.
#[derive(Default)]
struct Cost {
    ratios: Vec<f64>,
    note: String,
}

impl Cost {
    fn add(&mut self, floor: Duration, lines: &Lines) -> Result<(), String> {
        let each = lines.number("issue", &["server_cpu_us_per_item"])?;
        let floor = floor.as_secs_f64() * 1e6;
        self.ratios.push(floor / each);
        let (rate, p99) =
            (lines.number("issue", &["items_per_second"])?, lines.ms("issue", "issue", "p99").unwrap_or_default());
        self.note = format!(
            "last round: {each:.1} us of the CA for each SVID, {floor:.1} us sign + verify; {rate:.0}/s, p99 {p99:.1} ms"
        );
        Ok(())
    }

    fn figure(self, name: &'static str, target: f64) -> Result<Figure, String> {
        Figure::new(name, "", Target::AtLeast(target), self.ratios, self.note)
    }
}

fn issue(ca: &Playground, how: &[&str]) -> Result<Lines, String> {
    let time = format!("{}s", size("BENCH_ISSUE", 5)?);
    let mut args = vec!["issue", "--for", &time, "--warm-up", "1s", "--echo", "0s"];
    args.extend(how);
    load(ca, ca, &args)
}

fn folder(below: &Path) -> Result<tempfile::TempDir, String> {
    let made = tempfile::Builder::new().prefix("chancery-bench-").tempdir_in(below);
    made.map_err(|e| format!("{}: {e}", below.display()))
}

fn server(folder: &Path) -> Result<Playground, String> {
    let options = Options { nodes: 0, attest: Attest::JoinToken, ..Options::new(folder.join("playground")) };
    Playground::start(&options)
}
