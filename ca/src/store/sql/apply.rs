use super::{
    Context, Events, Stop, Tx, admit, anchors, authorities, claims, classes, crls, entries, federation, guests, holds,
    index, instances, issuing, keys, log, nodes, proposals, records, revoke, svids, tokens,
};
use crate::store::{Fact, RefusedBeginnings};
use chancery_core::event::Event;

/// Applies one fact: all its guards, then its writes, then its events.
pub(super) async fn apply(tx: &mut Tx, context: &mut Context, fact: &Fact) -> Result<Events, Stop> {
    let at = context.at;
    match fact {
        Fact::ActivateAuthority(f) => authorities::activate(tx, f).await,
        Fact::ActivateNodeSerial(f) => nodes::activate_serial(tx, f).await,
        Fact::AdmitNode(f) => admit::admit(tx, at, f).await,
        Fact::BanNode(f) => nodes::ban(tx, context, f).await,
        Fact::BeatClaim(f) => claims::beat(tx, context, f).await,
        Fact::BeginInstance(_) | Fact::RecordJwt(_) | Fact::RecordX509(_) | Fact::RenewInstance(_) => {
            let verdicts = issuing::apply(tx, at, std::slice::from_ref(fact)).await?;
            verdicts.into_iter().map(|verdict| verdict.map_err(Stop::from)).collect()
        }
        Fact::CreateClass(f) => classes::create(tx, f).await,
        Fact::CreateEntry(f) => entries::create(tx, f).await,
        Fact::CreateToken(f) => tokens::create(tx, at, f).await,
        Fact::DeleteClass(f) => classes::delete(tx, at, f).await,
        Fact::DeleteEntry(f) => entries::delete(tx, f).await,
        Fact::DeleteFederatedBundle(f) => federation::delete(tx, f).await,
        Fact::DisputeLog(f) => Ok(log::dispute(f)),
        Fact::EndInstance(f) => instances::end(tx, at, f).await,
        Fact::EnrolEk(f) => anchors::enrol(tx, at, f).await,
        Fact::EnrolKey(f) => anchors::enrol_key(tx, at, f).await,
        Fact::EvictNode(f) => nodes::evict(tx, context, f).await,
        Fact::ExpireNodes(f) => nodes::expire(tx, at, f).await,
        Fact::ExpireGuests(f) => guests::expire(tx, context, f).await,
        Fact::FailNode(f) => nodes::fail(tx, context, f).await,
        Fact::FollowUpstream(f) => guests::follow(tx, context, f).await,
        Fact::HoldInstance(f) => holds::place(tx, context, f).await,
        Fact::ImportAnchor(f) => anchors::import(tx, f).await,
        Fact::IndexLog(f) => index::write(tx, context, f).await,
        Fact::LeaveLog(f) => log::leave(tx, context, f).await,
        Fact::MoveKey(f) => keys::step(tx, at, f).await,
        Fact::PlanKey(f) => keys::plan(tx, at, f).await,
        Fact::PrepareAuthority(f) => authorities::prepare(tx, context, f).await,
        Fact::Propose(f) => proposals::propose(tx, context, f).await,
        Fact::PruneEntries(f) => entries::prune(tx, f).await,
        Fact::PruneRecords(f) => records::prune(tx, f).await,
        Fact::PublishKey(f) => guests::publish(tx, context, f).await,
        Fact::Reconcile(f) => instances::reconcile(tx, at, f).await,
        Fact::RecordCa(f) => svids::record_ca(tx, f).await,
        Fact::RecordMint(f) => svids::record_mint(tx, f).await,
        Fact::RefusedBeginnings(f) => Ok(vec![refused(f)]),
        Fact::RefusedStrangers(f) => Ok(vec![
            Event::new("strangers.refused", f.reason.code())
                .with("count", f.count)
                .with("second", f.second.0)
                .with_personal("source_prefix", &f.source_prefix),
        ]),
        Fact::ReleaseClaim(f) => claims::release(tx, context, f).await,
        Fact::ReleaseHold(f) => holds::release(tx, context, f).await,
        Fact::RemoveAuthority(f) => authorities::remove(tx, context, f).await,
        Fact::RenewNode(f) => nodes::renew(tx, f).await,
        Fact::ReopenClass(f) => revoke::reopen(tx, context, f).await,
        Fact::RetireAuthority(f) => authorities::retire(tx, f).await,
        Fact::ReviewProposal(f) => proposals::review(tx, context, f).await,
        Fact::RevokeAuthority(f) => authorities::revoke(tx, context, f).await,
        Fact::RevokeCertificate(f) => revoke::certificate(tx, context, f).await,
        Fact::RevokeClass(f) => revoke::class(tx, context, f).await,
        Fact::RevokeEntry(f) => revoke::entry(tx, context, f).await,
        Fact::RevokeExecutable(f) => revoke::executable(tx, context, f).await,
        Fact::RevokeInstance(f) => revoke::instance(tx, context, f).await,
        Fact::RevokeNode(f) => revoke::node(tx, context, f).await,
        Fact::ServerStarted(f) => Ok(vec![Event::new("server.started", "").with("version", f.version.as_str())]),
        Fact::SetAgentVersion(f) => nodes::set_agent_version(tx, f).await,
        Fact::SetFederatedBundle(f) => federation::set(tx, at, f).await,
        Fact::SignCrl(f) => crls::sign(tx, context, f).await,
        Fact::StoreCheckpoint(f) => log::store(tx, context, f).await,
        Fact::TaintAuthority(f) => authorities::taint(tx, context, f).await,
        Fact::TakeClaim(f) => claims::take(tx, context, f).await,
        Fact::TakeLog(f) => log::take(tx, f).await,
        Fact::UpdateClass(f) => classes::update(tx, f).await,
        Fact::UpdateEntry(f) => entries::update(tx, f).await,
    }
}

fn refused(fact: &RefusedBeginnings) -> Event {
    let event =
        Event::new("beginning.refused", &fact.node).with("class", fact.class.as_str()).with("count", fact.count);
    let event = event.with("reason", fact.reason.code());
    fact.process.iter().fold(event, |event, (name, value)| event.with_personal(name, value))
}
