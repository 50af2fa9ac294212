//! Proposals of detectors, and what operators say of them.
//!
//! What a proposal changes of anybody's standing is nothing but a hold, by the caps of [`holds`].

use chancery_core::{
    detect::{Verdict, dwell},
    event::Event,
    instance::{Cap, Standing},
};
use chancery_sdk::time::UnixTime;
use serde_json::json;

use super::{Context, Events, Pool, Stop, Tx, holds};
use crate::store::{
    HoldInstance, Placed, Proposal, ProposalFigures, Propose, Refusal, Review, ReviewProposal, StoreError,
};

/// Open proposals of one class and detector: one that has gone wild hides no other class, and floods nobody.
const MAX_OPEN: i64 = 100;

const INSTANCE: &str = "SELECT class, node_id, standing FROM instances WHERE id = $1";
/// Whether one is open for the instance, and how many are for its class.
const OPEN: &str = "SELECT \
    (SELECT COUNT(*) FROM proposals WHERE instance_id = $1 AND detector = $3 AND reviewed_at IS NULL), \
    (SELECT COUNT(*) FROM proposals WHERE class = $2 AND detector = $3 AND reviewed_at IS NULL)";
const PUT: &str = "INSERT INTO proposals (epoch, number, instance_id, class, node_id, detector, evidence, hold, capped, \
    first_at, opened_at, verdict, reason, contained_at) \
    VALUES ((SELECT epoch FROM counter WHERE id = 0), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', '', $11)";
const ONE: &str = "SELECT epoch, instance_id, detector, first_at, reviewed_at, contained_at FROM proposals \
    WHERE number = $1 AND ($2 < 0 OR epoch = $2) ORDER BY epoch DESC LIMIT 1";
/// When the instance was held last, if that was not over before the first evidence, and when it ended.
const CONTAINED: &str = "SELECT \
    (SELECT placed_at FROM holds WHERE instance_id = $1 AND held_until > $2), \
    (SELECT ended_at FROM instances WHERE id = $1)";
const REVIEW: &str = "UPDATE proposals SET reviewed_at = $3, verdict = $4, reason = $5, began_at = $6, contained_at = $7 \
    WHERE epoch = $1 AND number = $2";
const LISTED: &str = "SELECT epoch, number, instance_id, class, node_id, \
    COALESCE((SELECT standing FROM instances WHERE id = p.instance_id), '') AS standing, detector, evidence, \
    COALESCE((SELECT value FROM event_clear c WHERE c.epoch = p.epoch AND c.number = p.number AND c.field = 'places'), '') \
    AS places, hold, capped, opened_at, reviewed_at, verdict, reason, began_at, contained_at FROM proposals p \
    WHERE (epoch > $1 OR (epoch = $1 AND number > $2)) AND ($3 = 0 OR reviewed_at IS NULL) \
    ORDER BY epoch, number LIMIT $4";
const FIGURES: &str = "SELECT COUNT(CASE WHEN reviewed_at IS NULL THEN 1 END), \
    CAST(COALESCE(SUM(CASE WHEN reviewed_at IS NULL AND first_at < $1 THEN $1 - first_at END), 0) AS BIGINT), \
    COUNT(CASE WHEN verdict = 'incident' THEN 1 END), \
    CAST(COALESCE(SUM(CASE WHEN verdict = 'incident' THEN contained_at - began_at END), 0) AS BIGINT), \
    COUNT(CASE WHEN verdict = 'false-alarm' THEN 1 END) FROM proposals";

/// What became of the hold that goes with a proposal.
struct Held {
    word: &'static str,
    capped: String,
    contained_at: Option<UnixTime>,
    events: Events,
}

/// All guards come before the first write; the hold's own are among them.
pub(super) async fn propose(tx: &mut Tx, context: &Context, fact: &Propose) -> Result<Events, Stop> {
    let (id, detector, at) = (fact.instance.as_str(), fact.detector.name(), context.at);
    let row: Option<(String, String, String)> = sqlx::query_as(INSTANCE).bind(id).fetch_optional(&mut *tx).await?;
    let (class, node, standing) = row.ok_or(Refusal::NotFound)?;
    if standing != Standing::Good.as_str() {
        return Err(Refusal::InstanceNotGood.into());
    }
    let open = sqlx::query_as(OPEN).bind(id).bind(&class).bind(detector);
    let (own, of_class): (i64, i64) = open.fetch_one(&mut *tx).await?;
    if own > 0 {
        return Err(Refusal::AlreadyExists(None).into());
    }
    if of_class >= MAX_OPEN {
        return Err(Refusal::TooManyProposals { max: MAX_OPEN }.into());
    }
    let held = hold(tx, context, fact).await?;
    let seen = &fact.evidence;
    let (count, first, last) = (i64::try_from(seen.count).unwrap_or(i64::MAX), seen.first.0, seen.last.0);
    let evidence = json!({ "count": count, "first": first, "last": last }).to_string();
    let put = sqlx::query(PUT).bind(context.number).bind(id).bind(&class).bind(&node).bind(detector).bind(evidence);
    let put = put.bind(held.word).bind(&held.capped).bind(first).bind(at.0);
    put.bind(held.contained_at.map(|at| at.0)).execute(&mut *tx).await?;
    let mut event = Event::new("hold.proposed", id).with("class", class).with("node", node).with("detector", detector);
    event = event.with("count", count).with("first", first).with("last", last).with("hold", held.word);
    if !held.capped.is_empty() {
        event = event.with("capped", held.capped);
    }
    if !seen.places.is_empty() {
        let places: Vec<String> = seen.places.iter().map(ToString::to_string).collect();
        event = event.with_personal("places", places.join(","));
    }
    Ok(std::iter::once(event).chain(held.events).collect())
}

async fn hold(tx: &mut Tx, context: &Context, fact: &Propose) -> Result<Held, Stop> {
    let none = Held { word: "", capped: String::new(), contained_at: None, events: Vec::new() };
    let Some(span) = fact.hold else { return Ok(none) };
    let wanted = HoldInstance {
        id: fact.instance.clone(),
        span,
        placed: Placed::Detector { name: fact.detector.name() },
        reason: format!("proposal {}", context.number),
    };
    match holds::place(tx, context, &wanted).await {
        Ok(events) => Ok(Held { word: "placed", contained_at: Some(context.at), events, ..none }),
        Err(Stop::Refused(Refusal::HoldCapped(cap), _)) => {
            let capped = cap.to_string();
            // Somebody was faster.
            let contained_at = matches!(cap, Cap::Held { .. }).then_some(context.at);
            Ok(Held { word: "capped", capped, contained_at, ..none })
        }
        Err(stop) => Err(stop),
    }
}

pub(super) async fn review(tx: &mut Tx, context: &Context, fact: &ReviewProposal) -> Result<Events, Stop> {
    type Row = (i64, String, String, i64, Option<i64>, Option<i64>);
    let one = sqlx::query_as(ONE).bind(fact.number).bind(fact.epoch.unwrap_or(-1));
    let row: Option<Row> = one.fetch_optional(&mut *tx).await?;
    let (epoch, instance, detector, first, reviewed, contained) = row.ok_or(Refusal::NotFound)?;
    if reviewed.is_some() {
        return Err(Refusal::Stale.into());
    }
    let known = sqlx::query_as(CONTAINED).bind(&instance).bind(first);
    let (held, ended): (Option<i64>, Option<i64>) = known.fetch_one(&mut *tx).await?;
    let contained = [contained, held, ended].into_iter().flatten().map(UnixTime);
    let first = UnixTime(first);
    // Nothing began after it was seen: a later word would shorten what the record shows.
    let (began, end) = dwell(fact.began.unwrap_or(first).min(first), contained, context.at);
    let write = sqlx::query(REVIEW).bind(epoch).bind(fact.number).bind(context.at.0).bind(fact.verdict.name());
    write.bind(&fact.order.reason).bind(began.0).bind(end.0).execute(&mut *tx).await?;
    let mut event = Event::new("proposal.reviewed", instance).with("detector", detector);
    event = event.with("proposal", fact.number).with("proposal_epoch", epoch).with("verdict", fact.verdict.name());
    if fact.verdict == Verdict::Incident {
        event = event.with("began", began.0).with("contained", end.0);
    }
    let event = event.with("reason", fact.order.reason.as_str());
    Ok(vec![event.with_personal("caller", &fact.order.caller)])
}

#[derive(sqlx::FromRow)]
struct ProposalRow {
    epoch: i64,
    number: i64,
    instance_id: String,
    class: String,
    node_id: String,
    standing: String,
    detector: String,
    evidence: String,
    places: String,
    hold: String,
    capped: String,
    opened_at: i64,
    reviewed_at: Option<i64>,
    verdict: String,
    reason: String,
    began_at: Option<i64>,
    contained_at: Option<i64>,
}

impl From<ProposalRow> for Proposal {
    fn from(row: ProposalRow) -> Self {
        let (verdict, reason) = (row.verdict, row.reason);
        let times = row.reviewed_at.zip(row.began_at).zip(row.contained_at);
        let review = times.map(|((at, began), contained)| Review {
            at: UnixTime(at),
            verdict,
            reason,
            began_at: UnixTime(began),
            contained_at: UnixTime(contained),
        });
        Self {
            epoch: row.epoch,
            number: row.number,
            instance: row.instance_id,
            class: row.class,
            node: row.node_id,
            standing: row.standing,
            detector: row.detector,
            evidence: row.evidence,
            places: row.places,
            hold: row.hold,
            capped: row.capped,
            opened_at: UnixTime(row.opened_at),
            review,
        }
    }
}

pub(in crate::store) async fn listed(
    pool: &Pool,
    after: (i64, i64),
    open: bool,
    limit: u32,
) -> Result<Vec<Proposal>, StoreError> {
    let rows = sqlx::query_as::<_, ProposalRow>(LISTED).bind(after.0).bind(after.1).bind(i64::from(open));
    Ok(rows.bind(i64::from(limit)).fetch_all(pool).await?.into_iter().map(Proposal::from).collect())
}

pub(in crate::store) async fn figures(pool: &Pool, now: UnixTime) -> Result<ProposalFigures, StoreError> {
    let (open, open_age_secs, incidents, dwell_secs, false_alarms) =
        sqlx::query_as(FIGURES).bind(now.0).fetch_one(pool).await?;
    Ok(ProposalFigures { open, open_age_secs, incidents, dwell_secs, false_alarms })
}
