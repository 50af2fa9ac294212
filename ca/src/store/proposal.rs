//! Proposals: what a detector saw, for an operator to judge.

use chancery_core::{
    detect::{Detector, Evidence, Verdict},
    instance::HoldSpan,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::Order;

/// A detector's word on an instance, and the only thing that a detector may have done.
#[derive(Clone, Debug)]
pub struct Propose {
    /// The instance; it runs.
    pub instance: SpiffeId,
    /// Which detector.
    pub detector: Detector,
    /// What it saw.
    pub evidence: Evidence,
    /// Hold the instance at once, within the caps of detectors; where they are reached the proposal says so.
    pub hold: Option<HoldSpan>,
}

/// An operator's word on a proposal.
#[derive(Clone, Debug)]
pub struct ReviewProposal {
    /// Of which epoch; `None` = the newest that has a proposal of this number.
    pub epoch: Option<i64>,
    /// Number of its event.
    pub number: i64,
    /// What it was.
    pub verdict: Verdict,
    /// When it began, where that was before the first evidence.
    pub began: Option<UnixTime>,
    /// Why and who.
    pub order: Order,
}

/// A proposal as it is listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// Epoch of its event.
    pub epoch: i64,
    /// Number of its event.
    pub number: i64,
    /// SPIFFE ID.
    pub instance: String,
    /// Its class.
    pub class: String,
    /// Its node.
    pub node: String,
    /// `good`, `ended`, `revoked`; empty where the instance is not known any more.
    pub standing: String,
    /// Name of the detector.
    pub detector: String,
    /// Canonical JSON: `count`, `first`, `last`.
    pub evidence: String,
    /// Addresses it was seen at, with commas; empty where the detector does not look at them, or they were erased.
    pub places: String,
    /// Empty, `placed` or `capped`.
    pub hold: String,
    /// Why no hold was placed, where it was capped.
    pub capped: String,
    /// When it was written.
    pub opened_at: UnixTime,
    /// What an operator said.
    pub review: Option<Review>,
}

/// What an operator said of a proposal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Review {
    /// When.
    pub at: UnixTime,
    /// `incident` or `false-alarm`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// When it began.
    pub began_at: UnixTime,
    /// When the instance was held, revoked or ended first; the time of the review where it was not.
    pub contained_at: UnixTime,
}

/// Proposals in figures, of all servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProposalFigures {
    /// Not reviewed.
    pub open: i64,
    /// Seconds since their first evidence, of all open ones together.
    pub open_age_secs: i64,
    /// Reviewed: something was wrong.
    pub incidents: i64,
    /// Seconds from their beginning to what contained them, of all incidents together.
    pub dwell_secs: i64,
    /// Reviewed: nothing was wrong.
    pub false_alarms: i64,
}
