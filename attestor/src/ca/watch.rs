//! The CA's stream of what this node may have: full state first, then each change as it is committed.

use std::{sync::Arc, time::Duration};

use chancery_core::digest;
use chancery_proto::{
    chancery::{
        agent::v1 as agent,
        node::v1::{self as node, ReportCheckpointRequest, WatchRequest, WatchResponse, node_client::NodeClient},
    },
    spire::api::types,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    revocation::{Hold, Revocation},
    time::UnixTime,
    workload::{hold, revocation},
};
use futures_util::stream::{self, BoxStream, StreamExt};
use rustls_pki_types::CertificateDer;
use tonic::Streaming;

use super::{
    AuthorizedClass, AuthorizedEntry, Ca, CaError,
    sync::{MAX_ANSWER_BYTES, class, entry, own_bundle, usable},
    wire,
};
use crate::{
    identity::TrustBundle,
    witness::{Offered, Report},
};

/// Messages of one state at most: 500,000 entries.
const MAX_PARTS: usize = 1000;
/// Longest wait for the rest of a state whose first message came.
const REST: Duration = Duration::from_secs(30);

/// A place in the CA's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The log.
    pub epoch: i64,
    /// The last change that was applied.
    pub number: i64,
    /// Its hash.
    pub hash: Vec<u8>,
}

/// What the CA told in one go.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Where we are once it is applied; `None` where the place has not changed.
    pub cursor: Option<Cursor>,
    /// It is everything.
    pub full: bool,
    /// New or changed.
    pub entries: Vec<AuthorizedEntry>,
    /// IDs of entries that are not ours, or not any more.
    pub gone_entries: Vec<String>,
    /// New or changed.
    pub classes: Vec<AuthorizedClass>,
    /// Names, likewise.
    pub gone_classes: Vec<String>,
    /// The trust domain's own bundle, where it changed; the newest that is known.
    pub own: Option<Arc<TrustBundle>>,
    /// Foreign bundles, new or changed.
    pub foreign: Vec<TrustBundle>,
    /// Domains whose bundle is gone.
    pub gone_foreign: Vec<TrustDomain>,
    /// Instances that ended.
    pub ended: Vec<SpiffeId>,
    /// What nobody is to accept any more.
    pub revoked: Vec<Revocation>,
    /// When the oldest of those was committed, where the CA says so.
    pub revoked_at: Option<UnixTime>,
    /// Who is held, and who is not any more.
    pub holds: Vec<Hold>,
    /// That is everybody: a server that knows of holds told full state.
    pub every_hold: bool,
    /// The newest checkpoint of the record.
    pub checkpoint: Option<Offered>,
    /// Certificate revocation lists as they came: nobody has verified them yet.
    pub crls: Vec<ToldCrl>,
}

/// A list and the way from its CA to the bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToldCrl {
    /// One DER CRL, as is claimed.
    pub der: Vec<u8>,
    /// DER, the CA first, up to below the bundle.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What the CA tells, as it happens.
pub type Telling = BoxStream<'static, Result<Told, CaError>>;

impl Ca {
    /// Opens the stream; with a cursor only what changed since comes, if the CA still knows that. `witnessed`: the
    /// checkpoint that is kept.
    ///
    /// Each item is whole: a state in several messages is put together first, and full state is compared with its
    /// digest. The stream ends with its first error, and when another connection takes the place of the one it came over.
    ///
    /// # Errors
    /// [`CaError`]; `Refused` with `Unimplemented` where the CA is a SPIRE server.
    pub async fn watch(&self, cursor: Option<Cursor>, witnessed: Vec<u8>) -> Result<Telling, CaError> {
        let cursor = cursor.map(|c| node::Cursor { epoch: c.epoch, number: c.number, hash: c.hash });
        let (messages, link) = self
            .linked(|channel| {
                let request = WatchRequest { cursor: cursor.clone(), witnessed: witnessed.clone() };
                async move { NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES).watch(request).await }
            })
            .await?;
        let items = stream::unfold(Some((self.clone(), messages)), |open| async {
            let (ca, mut messages) = open?;
            match whole(&mut messages).await {
                Ok(None) => None,
                Ok(Some(parts)) => {
                    let told = ca.told(parts);
                    let open = told.is_ok().then_some((ca, messages));
                    Some((told, open))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(items.take_until(link.over.clone().cancelled_owned()).boxed())
    }

    /// Tells the CA of a checkpoint that this node refuses.
    ///
    /// # Errors
    /// [`CaError`]; `Refused` with `Unimplemented` by a server of an earlier release.
    pub async fn report_checkpoint(&self, report: &Report) -> Result<(), CaError> {
        let request = ReportCheckpointRequest {
            kept: report.kept.clone(),
            refused: report.refused.clone(),
            why: report.why.into(),
        };
        let call = |channel| {
            let request = request.clone();
            async move { NodeClient::new(channel).report_checkpoint(request).await }
        };
        self.call(call).await.map(drop)
    }

    /// Reads the messages of one state.
    fn told(&self, parts: Vec<WatchResponse>) -> Result<Told, CaError> {
        let mut told = Told { full: parts.first().is_some_and(|first| first.full), ..Told::default() };
        check_digest(told.full, &parts)?;
        for part in parts {
            told.cursor = part.cursor.map(|c| Cursor { epoch: c.epoch, number: c.number, hash: c.hash });
            told.gone_entries.extend(part.removed_entries);
            told.gone_classes.extend(part.removed_classes);
            // What makes no sense any more must not stay what it was.
            for told_entry in part.entries {
                let id = told_entry.id.clone();
                match usable("entry", &id, entry(told_entry)) {
                    Some(entry) => told.entries.push(entry),
                    None => told.gone_entries.push(id),
                }
            }
            for told_class in part.classes {
                let name = told_class.name.clone();
                match usable("class", &name, class(told_class)) {
                    Some(class) => told.classes.push(class),
                    None => told.gone_classes.push(name),
                }
            }
            for bundle in part.bundles {
                self.bundle_told(&mut told, bundle)?;
            }
            let domain = |name: String| TrustDomain::from_name_or_id(&name).ok();
            told.gone_foreign.extend(part.removed_bundles.into_iter().filter_map(domain));
            told.checkpoint = part.checkpoint.map(offered).or(told.checkpoint);
            told.revoked.extend(part.revocations.into_iter().filter_map(revocation));
            told.revoked_at = (part.revoked_at > 0).then_some(UnixTime(part.revoked_at)).or(told.revoked_at);
            told.holds.extend(part.holds.into_iter().map(hold));
            told.every_hold = told.full && !part.holds_digest.is_empty();
            let chain = |chain: Vec<Vec<u8>>| chain.into_iter().map(CertificateDer::from).collect();
            let lists = part.crls.into_iter().map(|crl| ToldCrl { der: crl.der, chain: chain(crl.issuer_chain) });
            told.crls.extend(lists);
            told.ended.extend(part.ended_instances.iter().filter_map(|id| SpiffeId::parse(id).ok()));
        }
        Ok(told)
    }

    fn bundle_told(&self, told: &mut Told, bundle: types::Bundle) -> Result<(), CaError> {
        let domain = TrustDomain::from_name_or_id(&bundle.trust_domain)
            .map_err(|e| CaError::malformed(format!("bundle: {e}")))?;
        if domain == self.domain {
            told.own = Some(self.publish_bundle(Arc::new(own_bundle(bundle, &domain)?)));
        } else {
            match usable("bundle", domain.name(), wire::bundle(bundle, &domain)) {
                Some(bundle) => told.foreign.push(bundle),
                None => told.gone_foreign.push(domain),
            }
        }
        Ok(())
    }
}

/// What cannot be a hash or a key is left out: then the proof fails.
fn offered(told: node::Checkpoint) -> Offered {
    let bytes = |all: Vec<Vec<u8>>| all.into_iter().filter_map(|one| one.try_into().ok()).collect();
    Offered { note: told.note, from: told.from, consistency: bytes(told.consistency), keys: bytes(told.keys) }
}

/// The messages that belong together; `None` where the stream has ended.
async fn whole(messages: &mut Streaming<WatchResponse>) -> Result<Option<Vec<WatchResponse>>, CaError> {
    let Some(first) = messages.message().await? else { return Ok(None) };
    let mut more = first.more;
    let mut parts = vec![first];
    while more {
        if parts.len() >= MAX_PARTS {
            return Err(CaError::malformed(format!("a state of more than {MAX_PARTS} messages")));
        }
        let next = tokio::time::timeout(REST, messages.message()).await;
        let next = next.map_err(|_| CaError::Lost("the rest of a state does not come".into()))??;
        let next = next.ok_or_else(|| CaError::Lost("the stream ended within a state".into()))?;
        more = next.more;
        parts.push(next);
    }
    Ok(Some(parts))
}

/// Full state must be what the CA says it is; a difference has no digest.
fn check_digest(full: bool, parts: &[WatchResponse]) -> Result<(), CaError> {
    if !full {
        return Ok(());
    }
    let entries = parts.iter().flat_map(|part| &part.entries).map(|e| (e.id.as_str(), e.revision_number));
    let classes = parts.iter().flat_map(|part| &part.classes).map(|c| (c.name.as_str(), c.revision));
    let told = parts.last().map(|last| last.digest.as_slice()).unwrap_or_default();
    if digest::of_registered(entries, classes)[..] != *told {
        return Err(CaError::malformed("full state is not what its digest says"));
    }
    let revoked: Vec<_> = parts.iter().flat_map(|part| &part.revocations).collect();
    let told = parts.last().map(|last| last.revocations_digest.as_slice()).unwrap_or_default();
    // A server of an earlier release has no list, and says nothing of one.
    let knows_none = told.is_empty() && revoked.is_empty();
    if !knows_none && digest::of_revocations(revoked.into_iter().map(row))[..] != *told {
        return Err(CaError::malformed("the list of revocations is not what its digest says"));
    }
    let held: Vec<_> = parts.iter().flat_map(|part| &part.holds).collect();
    let told = parts.last().map(|last| last.holds_digest.as_slice()).unwrap_or_default();
    let knows_none = told.is_empty() && held.is_empty();
    if !knows_none && digest::of_holds(held.into_iter().map(|one| (one.spiffe_id.as_str(), one.until)))[..] != *told {
        return Err(CaError::malformed("the holds are not what their digest says"));
    }
    Ok(())
}

fn row(r: &agent::Revocation) -> digest::RevocationRow<'_> {
    (r.scope, &r.spiffe_id, &r.authority_id, &r.serial_number, r.issued_until, r.expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;

    fn told(parts: Vec<WatchResponse>) -> Result<Told, CaError> {
        let (sender, _) = identity::channel();
        let servers = Arc::new(crate::ca::Servers::new(Vec::new()));
        Ca::new(TrustDomain::new("td.test").unwrap(), servers, sender).0.told(parts)
    }

    fn entry(id: &str, uid: Option<u32>) -> types::Entry {
        let selector = |uid| types::Selector { r#type: "unix".into(), value: format!("uid:{uid}") };
        types::Entry {
            id: id.into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "td.test".into(), path: "/a".into() }),
            selectors: uid.map(selector).into_iter().collect(),
            ..types::Entry::default()
        }
    }

    #[test]
    fn what_makes_no_sense_any_more_is_taken_for_gone() {
        let foreign = types::Bundle {
            trust_domain: "other.test".into(),
            jwt_authorities: vec![types::JwtKey::default()],
            x509_authorities: vec![types::X509Certificate { asn1: vec![1], tainted: false }],
            ..types::Bundle::default()
        };
        let changes = WatchResponse {
            entries: vec![entry("good", Some(1)), entry("bad", None)],
            classes: vec![node::Class { name: "a b".into(), ..node::Class::default() }],
            bundles: vec![foreign],
            ..WatchResponse::default()
        };
        let told = told(vec![changes]).unwrap();
        assert_eq!((told.entries.len(), told.gone_entries), (1, vec!["bad".to_owned()]));
        assert_eq!((told.classes.len(), told.gone_classes), (0, vec!["a b".to_owned()]));
        assert_eq!(told.foreign.len() + told.gone_foreign.len(), 1, "one bad bundle stops nobody");
    }

    #[test]
    fn full_state_that_is_not_what_its_digest_says_is_refused() {
        let whole = |digest: [u8; 32]| {
            let first =
                WatchResponse { full: true, more: true, entries: vec![entry("a", Some(1))], ..Default::default() };
            let last = WatchResponse { digest: digest.to_vec(), ..WatchResponse::default() };
            told(vec![first, last])
        };
        let right = digest::of_registered([("a", 0)], []);
        assert!(whole(right).is_ok_and(|told| told.full && told.entries.len() == 1));
        assert!(whole([0; 32]).is_err());
    }

    #[test]
    fn a_list_of_revocations_that_is_not_what_its_digest_says_is_refused() {
        let revoked = |serial: &str| agent::Revocation {
            scope: agent::Scope::Certificate.into(),
            spiffe_id: "spiffe://td.test/a".into(),
            authority_id: "aa".into(),
            serial_number: serial.into(),
            issued_until: 0,
            expires_at: 100,
        };
        let whole = |serials: &[&str], digest: Vec<u8>| {
            let first = WatchResponse { full: true, more: true, revocations: vec![revoked("1")], ..Default::default() };
            let last = WatchResponse {
                digest: digest::of_registered([], []).to_vec(),
                revocations: serials.iter().map(|serial| revoked(serial)).collect(),
                revocations_digest: digest,
                ..WatchResponse::default()
            };
            told(vec![first, last])
        };
        let both = [revoked("1"), revoked("2")];
        let right = digest::of_revocations(both.iter().map(row)).to_vec();
        assert!(whole(&["2"], right.clone()).is_ok_and(|told| told.revoked.len() == 2));
        assert!(whole(&["3"], right.clone()).is_err());
        assert!(whole(&[], right).is_err(), "one is missing");
        assert!(whole(&["2"], Vec::new()).is_err(), "a list without a digest");
        let none =
            WatchResponse { full: true, digest: digest::of_registered([], []).to_vec(), ..WatchResponse::default() };
        assert!(told(vec![none]).is_ok(), "a server that knows of none");
    }

    #[test]
    fn holds_that_are_not_what_their_digest_says_are_refused_and_a_server_without_any_replaces_none() {
        let row = |n: i64| agent::Hold { spiffe_id: format!("spiffe://td.test/agent/a/{n}"), until: n };
        let whole = |holds: &[i64], digest: Vec<u8>| {
            let first = WatchResponse { full: true, more: true, holds: vec![row(1)], ..Default::default() };
            let last = WatchResponse {
                digest: digest::of_registered([], []).to_vec(),
                holds: holds.iter().map(|n| row(*n)).collect(),
                holds_digest: digest,
                ..WatchResponse::default()
            };
            told(vec![first, last])
        };
        let both = [row(1), row(2)];
        let right = digest::of_holds(both.iter().map(|one| (one.spiffe_id.as_str(), one.until))).to_vec();
        assert!(whole(&[2], right.clone()).is_ok_and(|told| told.holds.len() == 2 && told.every_hold));
        assert!(whole(&[3], right.clone()).is_err());
        assert!(whole(&[], right).is_err(), "one is missing");
        assert!(whole(&[2], Vec::new()).is_err(), "holds without a digest");
        let none =
            WatchResponse { full: true, digest: digest::of_registered([], []).to_vec(), ..WatchResponse::default() };
        assert!(told(vec![none]).is_ok_and(|told| !told.every_hold), "a server that knows of none");
        let released = WatchResponse { holds: vec![agent::Hold { until: 0, ..row(1) }], ..WatchResponse::default() };
        assert_eq!(told(vec![released]).unwrap().holds[0].until, None);
    }

    #[test]
    fn the_commit_of_what_was_revoked_comes_with_it_where_the_server_says_so() {
        let at = |revoked_at| WatchResponse { revoked_at, ..WatchResponse::default() };
        assert_eq!(told(vec![at(0)]).unwrap().revoked_at, None);
        assert_eq!(told(vec![at(0), at(7)]).unwrap().revoked_at, Some(UnixTime(7)));
    }
}
