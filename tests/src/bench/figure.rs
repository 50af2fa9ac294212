use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// At least this much.
    AtLeast(f64),
    /// At most this much.
    AtMost(f64),
    /// Nobody said; it is told.
    Open,
}

/// One measured figure with its target.
#[derive(Clone, Debug)]
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    target: Target,
    /// Sorted, never empty.
    rounds: Vec<f64>,
    /// What the figure was made from.
    note: String,
}

impl Figure {
    /// A figure of these rounds; `unit` is empty for a ratio.
    ///
    /// # Errors
    /// There is no round.
    pub(super) fn new(
        name: &'static str,
        unit: &'static str,
        target: Target,
        mut rounds: Vec<f64>,
        note: String,
    ) -> Result<Self, String> {
        if rounds.is_empty() {
            return Err(format!("{name}: nothing was measured"));
        }
        rounds.sort_by(f64::total_cmp);
        Ok(Self { name, unit, target, rounds, note })
    }

    /// The middle round.
    pub fn median(&self) -> f64 {
        self.rounds[self.rounds.len() / 2]
    }

    /// Whether the median meets the target.
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.median() >= least,
            Target::AtMost(most) => self.median() <= most,
            Target::Open => true,
        }
    }

    /// The head of the table.
    pub fn head() -> String {
        format!("{:<46} {:>10} {:>10} {:>17}  {:<7} from", "figure", "target", "median", "spread", "verdict")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        let target = match self.target {
            Target::AtLeast(least) => format!(">= {least:.2}{unit}"),
            Target::AtMost(most) => format!("<= {most:.2}{unit}"),
            Target::Open => "none".into(),
        };
        let (least, most) = (self.rounds[0], self.rounds[self.rounds.len() - 1]);
        let (median, spread) = (format!("{:.2}{unit}", self.median()), format!("{least:.2} to {most:.2}{unit}"));
        let verdict = match self.target {
            Target::Open => "told",
            _ if self.is_met() => "met",
            _ => "MISSED",
        };
        write!(f, "{:<46} {target:>10} {median:>10} {spread:>17}  {verdict:<7} {}", self.name, self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(target: Target) -> Figure {
        Figure::new("x", "", target, vec![3.0, 1.0, 2.0, 9.0, 0.5], String::new()).unwrap()
    }

    #[test]
    fn median_is_the_middle_round_and_is_what_is_judged() {
        assert!((figure(Target::AtMost(2.0)).median() - 2.0).abs() < f64::EPSILON);
        assert!(figure(Target::AtMost(2.0)).is_met() && !figure(Target::AtMost(1.9)).is_met());
        assert!(figure(Target::AtLeast(2.0)).is_met() && !figure(Target::AtLeast(2.1)).is_met());
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert!(Figure::new("x", "", Target::AtMost(1.0), vec![], String::new()).is_err());
    }
}
