//! Two places: an instance whose node calls from one address, then from another, then from the first again.
//!
//! A, then B is a move: an address changes, a node fails over to another network. A, B, A within the window is somebody at
//! each: the node's key is used on two machines. A third address in between changes nothing.

// The type alone: nothing here opens a socket.
use core::net::IpAddr;

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::{Evidence, QUIET_SECS, counts, recent::Recent};

/// Within it an address that comes back is no move.
pub const PLACES_WINDOW_SECS: i64 = 600;
/// Addresses of one instance told apart; who comes from more is found by those that come back first.
const MAX_PLACES: usize = 4;
/// Instances told apart; twice as many rows at most, of about 300 bytes each.
const MAX_INSTANCES: usize = 32_768;

/// Where instances were seen.
#[derive(Debug)]
pub struct Places {
    rows: Recent<Row>,
}

#[derive(Debug, Default)]
struct Row {
    /// The newest first, each address once.
    stays: Vec<Stay>,
    quiet_until: Option<UnixTime>,
}

#[derive(Clone, Copy, Debug)]
struct Stay {
    place: IpAddr,
    first: UnixTime,
    last: UnixTime,
    calls: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self { rows: Recent::new(MAX_INSTANCES) }
    }
}

impl Places {
    /// The instance's node called from there, or told there that the instance runs; what that shows, if anything.
    pub fn seen(&mut self, id: &SpiffeId, place: IpAddr, at: UnixTime) -> Option<Evidence> {
        // What comes over both families of one socket is the same place.
        let place = place.to_canonical();
        let row = self.rows.row(id);
        row.stays.retain(|stay| counts(stay.last, at, PLACES_WINDOW_SECS));
        if let Some(newest) = row.stays.first_mut().filter(|newest| newest.place == place) {
            (newest.last, newest.calls) = (newest.last.max(at), newest.calls.saturating_add(1));
            return None;
        }
        let before = row.stays.iter().position(|stay| stay.place == place);
        let mut stay = Stay { place, first: at, last: at, calls: 0 };
        if let Some(known) = before {
            stay = row.stays.remove(known);
        }
        (stay.last, stay.calls) = (stay.last.max(at), stay.calls.saturating_add(1));
        row.stays.insert(0, stay);
        row.stays.truncate(MAX_PLACES);
        before?;
        if row.quiet_until.is_some_and(|until| counts(until.plus(-QUIET_SECS), at, QUIET_SECS)) {
            return None;
        }
        row.quiet_until = Some(at.plus(QUIET_SECS));
        let stays = std::mem::take(&mut row.stays);
        Some(Evidence {
            count: stays.iter().fold(0, |sum: u64, stay| sum.saturating_add(stay.calls)),
            first: stays.iter().map(|stay| stay.first).min().unwrap_or(at),
            last: at,
            places: stays.into_iter().map(|stay| stay.place).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/agent/a/{n}")).unwrap()
    }

    fn place(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    /// Seconds and places in order; how often it tells.
    fn told(calls: &[(i64, u8)]) -> usize {
        let mut places = Places::default();
        calls.iter().filter_map(|(at, n)| places.seen(&id(1), place(*n), UnixTime(*at))).count()
    }

    #[test]
    fn a_place_that_comes_back_within_the_window_is_told_and_a_move_is_not() {
        for (calls, want) in [
            (&[(0, 1), (1, 1), (2, 1)][..], 0),
            (&[(0, 1), (1, 2), (2, 2), (3, 2)], 0),
            (&[(0, 1), (1, 2), (2, 3), (3, 4)], 0),
            (&[(0, 1), (1, 2), (2, 1)], 1),
            (&[(0, 1), (1, 2), (2, 3), (3, 1)], 1),
            (&[(0, 1), (300, 2), (599, 1)], 1),
            // Gone for the whole window: it moved, and moved back.
            (&[(0, 1), (1, 2), (600, 1)], 0),
            // Again and again, and told once in five minutes.
            (&[(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (5, 2)], 1),
            (&[(0, 1), (1, 2), (2, 1), (303, 2), (304, 1), (305, 2), (306, 1)], 2),
            // The clock was set back by an hour: what was seen in the future counts for nothing.
            (&[(3600, 1), (3601, 2), (1, 1)], 0),
            (&[(100, 1), (101, 2), (99, 1)], 1),
        ] {
            assert_eq!(told(calls), want, "{calls:?}");
        }
    }

    #[test]
    fn evidence_says_what_was_seen() {
        let mut places = Places::default();
        let mut see = |n, at| places.seen(&id(1), place(n), UnixTime(at));
        assert_eq!((see(1, 10), see(1, 20), see(2, 30)), (None, None, None));
        let want = Evidence { count: 4, first: UnixTime(10), last: UnixTime(40), places: [place(1), place(2)].into() };
        assert_eq!(see(1, 40), Some(want));
    }

    #[test]
    fn one_address_in_both_forms_is_one_place() {
        let mut places = Places::default();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        for (at, place) in [(0, place(1)), (1, mapped), (2, place(1))] {
            assert_eq!(places.seen(&id(1), place, UnixTime(at)), None);
        }
    }

    #[test]
    fn instances_are_told_apart_and_however_many_come_the_table_is_bounded() {
        let mut places = Places::default();
        for n in 0..150_000 {
            assert_eq!(places.seen(&id(n), place((n % 200) as u8), UnixTime(0)), None);
        }
        assert!(places.rows.len() <= 2 * MAX_INSTANCES);
    }

    /// By the definition: told at the first call whose place was seen before, another one since, all within the window.
    #[test]
    fn the_first_word_comes_with_the_first_return() {
        const RESTS: [i64; 3] = [1, 300, 600];
        for pattern in 0..9_usize.pow(5) {
            let (mut places, mut at, mut seen) = (Places::default(), 0, Vec::<(i64, u8)>::new());
            for call in 0..5 {
                let one = pattern / 9_usize.pow(call) % 9;
                let n = (one % 3) as u8;
                at += RESTS[one / 3];
                let last_here = seen.iter().rposition(|(_, place)| *place == n);
                let returned =
                    last_here.is_some_and(|last| at - seen[last].0 < PLACES_WINDOW_SECS && last + 1 < seen.len());
                seen.push((at, n));
                let evidence = places.seen(&id(1), place(n), UnixTime(at));
                assert_eq!(evidence.is_some(), returned, "{seen:?}");
                if let Some(evidence) = evidence {
                    assert!(evidence.places.len() >= 2 && evidence.count >= 3, "{seen:?}: {evidence:?}");
                    break;
                }
            }
        }
    }
}
