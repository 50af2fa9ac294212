//! The figures the README quotes, each measured in one run: medians of five rounds with their spread.
//!
//! Nothing here judges by the clock of another machine: speeds are ratios of two things done in turns in the same
//! minute, and memory is what the kernel says. Called by `make bench`.

mod audit;
mod fetch;
mod figure;
mod issue;
mod load;
mod memory;
mod revoke;
mod scale;
mod served;
mod token;

pub use figure::Figure;

/// Rounds of each measurement; the median of an odd number is one of them.
const ROUNDS: usize = 5;

/// A measurement: its name, what it is, and what does it.
type Measurement = (&'static str, &'static str, fn() -> Result<Vec<Figure>, String>);

/// All of them, in the order of the table.
const MEASUREMENTS: [Measurement; 11] = [
    ("issue", "issuing in the library", issue::measure),
    ("served", "issuing as nodes meet it", served::measure),
    ("log", "issuing with the signed record and without", served::logged),
    ("token", "keys in a token", token::measure),
    ("audit", "the signed record", audit::measure),
    ("fetch", "cached fetches over the socket", fetch::measure),
    ("memory", "memory: two TPM nodes, four agents, 1,000 entries", memory::measure),
    ("push", "changes pushed to 5,000 nodes", scale::push),
    ("revoke", "revocations with 1,000 nodes", revoke::measure),
    ("fleet", "5,000 nodes that follow and wait", scale::fleet),
    ("many", "1,000,000 entries", scale::many),
];

/// What there is to measure, a line each.
pub fn usage() -> String {
    let lines = MEASUREMENTS.map(|(name, what, _)| format!("  {name:<8} {what}\n"));
    format!("bench [NAME...]: measures what is named, or everything:\n\n{}", lines.concat())
}

/// Measures what is named, or everything, telling each figure as it comes.
///
/// # Errors
/// Something broke, or a name is none; a figure that misses its target is no error.
pub fn run(names: &[String]) -> Result<Vec<Figure>, String> {
    if let Some(unknown) = names.iter().find(|name| MEASUREMENTS.iter().all(|(known, ..)| known != name)) {
        let known = MEASUREMENTS.map(|(name, ..)| name).join(", ");
        return Err(format!("no measurement {unknown}; there are {known}"));
    }
    let mut figures = Vec::new();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    for (_, what, measure) in MEASUREMENTS.into_iter().filter(|(name, ..)| wanted(name)) {
        eprintln!("measuring {what}");
        let fresh = measure()?;
        fresh.iter().for_each(|figure| eprintln!("  {figure}"));
        figures.extend(fresh);
    }
    Ok(figures)
}
