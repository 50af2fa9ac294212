//! When a node's own SVID is renewed: at half its life, or when its authority is tainted.

use std::time::{Duration, Instant};

use chancery_sdk::{time::UnixTime, tls::system_clock};

use super::{Polling, member::Member, poll::Shared};
use crate::{dice::Dice, moment::Moment};

/// When a node's SVID is due.
pub(super) struct Rotation {
    renew_at: UnixTime,
    /// This node's share of the window after a taint.
    share: f64,
    /// When the taint of the current authority was seen first.
    tainted: Option<Instant>,
    /// The last try failed: the next one is after the next poll.
    failed: bool,
    /// Share of the life that is left when the SVID is due.
    half: f64,
}

impl Rotation {
    pub(super) fn new(member: &Member, dice: &mut Dice) -> Self {
        // SPIRE's agent: when no more is left than half the life, give or take a tenth.
        let half = dice.between(0.9, 1.1) * 0.5;
        let mut rotation = Self { renew_at: UnixTime(0), share: dice.share(), tainted: None, failed: false, half };
        rotation.plan(member);
        rotation
    }

    fn plan(&mut self, member: &Member) {
        let now = system_clock()();
        self.renew_at = renew_at(now, UnixTime(member.node.expires_at()), self.half);
        self.tainted = None;
    }

    /// When to look again before the next poll; only a taint asks for that.
    pub(super) fn moment(&self, polling: &Polling) -> Option<Instant> {
        let within = Duration::from_millis(polling.rotate_within_ms?);
        self.tainted.filter(|_| !self.failed).map(|since| since + within.mul_f64(self.share))
    }

    /// When the SVID is due, for a node that waits for nothing else; a moment of a failed try is a second later.
    pub(super) fn due(&self, polling: &Polling) -> Instant {
        if self.failed {
            return Instant::now() + Duration::from_secs(1);
        }
        let left = u64::try_from(self.renew_at.since(system_clock()())).unwrap_or_default();
        let by_age = Instant::now() + Duration::from_secs(left);
        self.moment(polling).map_or(by_age, |told| told.min(by_age))
    }

    /// Renews where it is time to; whether it did.
    pub(super) async fn look(&mut self, member: &Member, shared: &Shared) -> bool {
        if shared.polling.rotate_within_ms.is_some() && shared.trust.is_tainted(&member.node.authority()) {
            self.tainted.get_or_insert_with(Instant::now);
        }
        self.failed = false;
        let told = self.moment(&shared.polling);
        if system_clock()() < self.renew_at && told.is_none_or(|at| Instant::now() < at) {
            return false;
        }
        let begun = Instant::now();
        let outcome = member.renew(&shared.ledger).await.map(|()| 1);
        self.failed = outcome.is_err();
        let mut ledger = shared.ledger.open();
        if !self.failed {
            ledger.seconds.record(Moment::now().since(shared.polling.zero));
            ledger.count("rotated", 1);
        }
        ledger.call("renew", begun.elapsed(), outcome);
        drop(ledger);
        if !self.failed {
            self.plan(member);
        }
        !self.failed
    }
}

/// When an SVID that was just issued is renewed: when this share of its life is left.
fn renew_at(issued: UnixTime, end: UnixTime, left: f64) -> UnixTime {
    end.plus(-((end.since(issued).max(0) as f64 * left) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_svid_is_renewed_when_about_half_of_its_life_is_left() {
        let at = |left: f64| renew_at(UnixTime(1000), UnixTime(4600), left).0;
        assert_eq!((at(0.45), at(0.5), at(0.55)), (2980, 2800, 2620));
        assert_eq!(renew_at(UnixTime(1000), UnixTime(900), 0.5), UnixTime(900), "one that has ended is due");
    }
}
