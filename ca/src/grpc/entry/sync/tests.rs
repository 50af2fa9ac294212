use chancery_core::entry::{Draft, Rights, check};
use chancery_proto::spire::api::types::EntryMask;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};
use tonic::Code;

use super::*;

fn entries(count: usize) -> Vec<Entry> {
    let domain = TrustDomain::new("td").unwrap();
    let one = |n: usize| {
        let draft = Draft {
            id: format!("e{n:05}"),
            spiffe_id: SpiffeId::parse("spiffe://td/db").ok(),
            parent_id: SpiffeId::parse("spiffe://td/node").ok(),
            selectors: [format!("unix:uid:{n}").parse().unwrap()].into(),
            x509_svid_ttl: 60,
            jwt_svid_ttl: 0,
            federates_with: Vec::new(),
            rights: Rights::default(),
            expires_at: 0,
            dns_names: Vec::new(),
            hint: "h".into(),
            store_svid: false,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        };
        check(draft, Mask::ALL, &domain).unwrap().create("", UnixTime(9)).unwrap()
    };
    (0..count).map(one).collect()
}

fn ask(ids: &[&str], mask: Option<EntryMask>) -> Result<SyncAuthorizedEntriesRequest, Status> {
    Ok(SyncAuthorizedEntriesRequest { output_mask: mask, ids: ids.iter().map(|id| (*id).into()).collect() })
}

async fn exchange_of(
    count: usize,
    requests: Vec<Result<SyncAuthorizedEntriesRequest, Status>>,
) -> Vec<Result<SyncAuthorizedEntriesResponse, Status>> {
    let (answers, mut inbox) = mpsc::channel(64);
    run(entries(count), tokio_stream::iter(requests), answers).await;
    let mut all = Vec::new();
    while let Some(answer) = inbox.recv().await {
        all.push(answer);
    }
    all
}

#[tokio::test]
async fn up_to_a_page_comes_whole_and_ends_the_stream() {
    for count in [0, 1, 500] {
        // A second request is never answered: the stream is over.
        let answers = exchange_of(count, vec![ask(&[], None), ask(&["e00000"], None)]).await;
        let [Ok(only)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((only.entries.len(), only.entry_revisions.len(), only.more), (count, 0, false));
    }
}

#[tokio::test]
async fn more_come_as_revisions_and_then_as_asked_for() {
    let answers =
        exchange_of(501, vec![ask(&[], None), ask(&["e00000", "unknown"], None), ask(&["unknown"], None)]).await;
    let shapes: Vec<_> = answers.iter().flatten().map(|a| (a.entry_revisions.len(), a.entries.len(), a.more)).collect();
    assert_eq!(shapes, [(500, 0, true), (1, 0, false), (0, 1, false), (0, 0, false)]);
}

#[tokio::test]
async fn first_mask_governs_the_whole_stream() {
    let mask = EntryMask { revision_number: true, ..EntryMask::default() };
    let answers = exchange_of(501, vec![ask(&[], Some(mask)), ask(&["e00000"], None)]).await;
    let entry = &answers.last().unwrap().as_ref().unwrap().entries[0];
    assert_eq!((entry.id.as_str(), entry.hint.as_str(), entry.spiffe_id.is_none()), ("e00000", "", true));
}

#[tokio::test]
async fn wrong_first_request_is_refused() {
    for first in [ask(&["e00000"], None), ask(&[], Some(EntryMask::default()))] {
        let answers = exchange_of(1, vec![first]).await;
        let [Err(status)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}
