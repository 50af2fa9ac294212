//! Messages of proposals.

use chancery_core::detect::Verdict;
use chancery_proto::chancery::admin::v1 as admin;
use chancery_sdk::time::UnixTime;
use tonic::Status;

use crate::proposals::{Proposal, Which};

/// Reads where a page begins.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn after(token: &str) -> Result<(i64, i64), Status> {
    if token.is_empty() {
        return Ok((-1, -1));
    }
    let parts = token.split_once('/').and_then(|(epoch, number)| Some((epoch.parse().ok()?, number.parse().ok()?)));
    parts.ok_or_else(|| Status::invalid_argument("page_token: not one of ours"))
}

/// Reads which proposal, the verdict on it, and when it began.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn review(request: &admin::ReviewProposalRequest) -> Result<(Which, Verdict, Option<UnixTime>), Status> {
    let verdict = request.verdict.parse().map_err(|e| Status::invalid_argument(format!("verdict: {e}")))?;
    let began = (request.began_at != 0).then_some(UnixTime(request.began_at));
    Ok((Which { epoch: request.epoch, number: request.number }, verdict, began))
}

/// Writes a page of the list.
pub fn listed(proposals: &[Proposal], size: u32) -> admin::ListProposalsResponse {
    let full = proposals.len() >= usize::try_from(size).unwrap_or(usize::MAX);
    let next = proposals.last().filter(|_| full).map(|last| format!("{}/{}", last.epoch, last.number));
    admin::ListProposalsResponse {
        proposals: proposals.iter().map(one).collect(),
        next_page_token: next.unwrap_or_default(),
    }
}

fn one(proposal: &Proposal) -> admin::Proposal {
    let places = proposal.places.split(',').filter(|place| !place.is_empty()).map(str::to_owned).collect();
    let mut out = admin::Proposal {
        number: proposal.number,
        epoch: proposal.epoch,
        instance: proposal.instance.clone(),
        class_name: proposal.class.clone(),
        node_id: proposal.node.clone(),
        standing: proposal.standing.clone(),
        detector: proposal.detector.clone(),
        evidence: proposal.evidence.clone(),
        places,
        hold: proposal.hold.clone(),
        capped: proposal.capped.clone(),
        opened_at: proposal.opened_at.0,
        ..admin::Proposal::default()
    };
    if let Some(review) = &proposal.review {
        (out.reviewed_at, out.began_at, out.contained_at) = (review.at.0, review.began_at.0, review.contained_at.0);
        (out.verdict, out.reason) = (review.verdict.clone(), review.reason.clone());
    }
    out
}
