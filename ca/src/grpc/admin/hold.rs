//! Messages of holds.

use chancery_proto::chancery::admin::v1 as admin;
use tonic::Status;

use crate::hold::{Hold, HoldSpan};

/// Reads how long.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn span(seconds: i64) -> Result<HoldSpan, Status> {
    HoldSpan::new(seconds).map_err(|e| Status::invalid_argument(format!("seconds: {e}")))
}

/// Writes a page of the list.
pub fn listed(holds: &[Hold], size: u32) -> admin::ListHoldsResponse {
    let full = holds.len() >= usize::try_from(size).unwrap_or(usize::MAX);
    let next = holds.last().filter(|_| full).map(|hold| hold.instance.clone());
    admin::ListHoldsResponse { holds: holds.iter().map(one).collect(), next_page_token: next.unwrap_or_default() }
}

fn one(hold: &Hold) -> admin::Hold {
    admin::Hold {
        instance: hold.instance.clone(),
        class_name: hold.class.clone(),
        node_id: hold.node.clone(),
        until: hold.until.0,
        placed_at: hold.placed_at.0,
        detector: hold.detector.clone().unwrap_or_default(),
        reason: hold.reason.clone(),
    }
}
