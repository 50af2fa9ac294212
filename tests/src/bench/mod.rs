//! The figures the README quotes, each measured in one run: medians of five rounds with their spread.
//!
//! Nothing here judges by the clock of another machine: speeds are ratios of two things done in turns in the same
//! minute, and memory is what the kernel says. Called by `make bench`.

mod fetch;
mod figure;
mod issue;
mod memory;
mod token;

pub use figure::Figure;

/// Rounds of each measurement; the median of an odd number is one of them.
const ROUNDS: usize = 5;

/// Measures everything, telling each figure as it comes.
///
/// # Errors
/// Something broke; a figure that misses its target is no error.
pub fn run() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let measurements: [(&str, fn() -> Result<Vec<Figure>, String>); 4] = [
        ("issuing in the library", issue::measure),
        ("keys in a token", token::measure),
        ("cached fetches over the socket", fetch::measure),
        ("memory: two TPM nodes, four agents, 1,000 entries", memory::measure),
    ];
    for (what, measure) in measurements {
        eprintln!("measuring {what}");
        let fresh = measure()?;
        fresh.iter().for_each(|figure| eprintln!("  {figure}"));
        figures.extend(fresh);
    }
    Ok(figures)
}
