//! Holds: nothing new for one instance for a while, by an operator's word or a detector's.

use chancery_core::instance::HoldSpan;
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::Order;

/// An instance gets nothing new from now on until the end of the span.
#[derive(Clone, Debug)]
pub struct HoldInstance {
    /// The instance; it runs.
    pub id: SpiffeId,
    /// Counted from the time of commit.
    pub span: HoldSpan,
    /// Who.
    pub placed: Placed,
    /// Why; stands in the record.
    pub reason: String,
}

/// Who places a hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Placed {
    /// A detector of ours, within its caps.
    Detector {
        /// Its name; stands in the record.
        name: &'static str,
    },
    /// A person.
    Operator {
        /// `uid 0` or a SPIFFE ID; kept apart from the record.
        caller: String,
    },
}

/// The instance may have again what it asks for.
#[derive(Clone, Debug)]
pub struct ReleaseHold {
    /// The instance.
    pub id: SpiffeId,
    /// Why and who.
    pub order: Order,
}

/// The newest hold of an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hold {
    /// SPIFFE ID of the instance.
    pub instance: String,
    /// Its class.
    pub class: String,
    /// The node it runs on.
    pub node: String,
    /// At this second it is over.
    pub until: UnixTime,
    /// When it was placed.
    pub placed_at: UnixTime,
    /// The detector that placed it; `None` = an operator.
    pub detector: Option<String>,
    /// Why.
    pub reason: String,
}
