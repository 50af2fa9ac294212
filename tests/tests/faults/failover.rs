//! The primary dies, its synchronous standby is promoted, and the old primary comes back as if nothing had happened.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Cluster, End},
    ledger::Ledger,
    report::{ran, rounds},
    stage::{Stage, folder, servers},
};

/// From the promotion until every node has an SVID again.
const BACK: Duration = Duration::from_secs(10);
/// SVIDs between two faults.
const CALM: usize = 40;
const STREAMS: Duration = Duration::from_secs(30);

/// Makes commits wait for the standby, once it streams.
fn synchronous(primary: &Cluster) {
    chancery_tests::process::until(STREAMS, || {
        match primary.sql("SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming'").as_str() {
            "1" => Ok(()),
            streams => Err(format!("{streams} standbys stream")),
        }
    })
    .unwrap();
    primary.set("synchronous_standby_names = 'sb'");
    chancery_tests::process::until(STREAMS, || {
        match primary.sql("SELECT sync_state FROM pg_stat_replication").as_str() {
            "sync" => Ok(()),
            other => Err(format!("the standby is {other}")),
        }
    })
    .unwrap();
}

#[test]
fn a_promoted_synchronous_standby_has_every_acknowledged_record_and_the_old_primary_is_refused() {
    let mut primary = Cluster::start(&[]);
    let mut standby = primary.standby("sb", None);
    synchronous(&primary);
    let folder = folder();
    let servers = servers(folder.path(), 2, &primary.url_with(&standby));
    // The same two in the other order.
    servers[1].configure(&standby.url_with(&primary), "");
    let stage = Stage::raise(folder, servers);
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for round in 0..rounds() {
        load.go_on(CALM, BACK);
        primary.down(End::Kill);
        standby.promote();
        let since = Instant::now();
        longest = longest.max(load.back(since, |_| true, BACK));
        load.go_on(CALM, BACK);

        // Unfenced: it takes writes, and lacks what was acknowledged since. Everybody is to choose again.
        primary.unset_while_down("synchronous_standby_names");
        primary.up();
        let since = Instant::now();
        standby.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chancery-ca'");
        load.back(since, |_| true, BACK);
        load.go_on(CALM, BACK);
        assert_eq!(
            primary.sql(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'chancery-ca' AND state <> 'idle'"
            ),
            "0"
        );

        if round + 1 < rounds() {
            // The old one's place is taken by a standby of the new one.
            let port = primary.port();
            primary.down(End::Fast);
            let fresh = standby.standby("sb", Some(port));
            primary = std::mem::replace(&mut standby, fresh);
            synchronous(&primary);
        }
    }
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    ran("failover to a promoted synchronous standby", &format!("back within {longest:?} of {BACK:?}; {figures}"));
}
