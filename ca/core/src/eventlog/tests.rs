//! Cases 33 to 39 of the threat model, as far as they are the log's.

use super::{
    LogError, MAX_EVENTS, MAX_LOG_BYTES,
    event::{BOOT_SERVICES_APPLICATION, EFI_ACTION, NO_ACTION, VARIABLE_AUTHORITY},
    examine,
    sample::*,
};
use crate::{crypto::sha256, reason::Reason};

fn secure_boot(rows: &[Row]) -> Result<bool, Reason> {
    examine(&bytes(rows)).unwrap().secure_boot.map(|state| state.on).map_err(|e| e.reason())
}

fn refused(log: &[u8]) -> Reason {
    examine(log).unwrap_err().reason()
}

/// The sample with the row at `at` replaced.
fn with(at: usize, row: Row) -> Vec<Row> {
    let mut rows = good();
    rows[at] = row;
    rows
}

#[test]
fn a_good_log_proves_secure_boot_authorities_and_programs() {
    let facts = examine(&bytes(&good())).unwrap();
    let state = facts.secure_boot.unwrap();
    assert!(state.on && !state.dma_protection_off);
    assert_eq!(state.authorities, [Some(sha256(&[b"certificate"]))]);
    assert_eq!(facts.boot_apps.unwrap(), [[0x5a; 32]]);
    assert_eq!(facts.replayed[&0], sha256(&[[0; 32].as_slice(), &sha256(&[b"firmware 1.0"])]));
}

#[test]
fn startup_locality_is_the_last_byte_of_pcr_0() {
    let mut rows = good();
    rows.insert(0, row(0, NO_ACTION, b"StartupLocality\0\x03"));
    let mut initial = [0; 32];
    initial[31] = 3;
    let expected = sha256(&[initial.as_slice(), &sha256(&[b"firmware 1.0"])]);
    assert_eq!(examine(&bytes(&rows)).unwrap().replayed[&0], expected);
}

#[test]
fn case_33_dropped_added_reordered_and_changed_events_replay_to_other_pcrs() {
    let honest = examine(&bytes(&good())).unwrap().replayed;
    let mut dropped = good();
    dropped.remove(0);
    let mut added = good();
    added.push(row(0, 8, b"more"));
    let mut reordered = good();
    reordered.swap(2, 3);
    let mut changed = good();
    changed[0].2[0] ^= 1;
    for rows in [dropped, added, reordered, changed] {
        assert_ne!(examine(&bytes(&rows)).unwrap().replayed, honest);
    }
}

#[test]
fn case_34_retyped_events_before_faked_ones_do_not_hide_secure_boot_off() {
    let off = with(1, config(GLOBAL, "SecureBoot", &[0]));
    for hidden in [0x8u32, EFI_ACTION, VARIABLE_AUTHORITY, 0xd] {
        let mut rows: Vec<Row> = off
            .iter()
            .cloned()
            .map(|mut r| {
                if r.0 == 7 {
                    r.1 = hidden;
                }
                r
            })
            .collect();
        rows.extend(good().into_iter().filter(|r| r.0 == 7));
        assert!(secure_boot(&rows).is_err(), "{hidden:x}");
    }
}

#[test]
fn case_34_events_retyped_as_no_action_no_longer_replay() {
    let mut rows = with(1, config(GLOBAL, "SecureBoot", &[0]));
    let honest = examine(&bytes(&rows)).unwrap().replayed;
    rows.iter_mut().filter(|r| r.0 == 7).for_each(|r| r.1 = NO_ACTION);
    rows.extend(good().into_iter().filter(|r| r.0 == 7));
    let lie = examine(&bytes(&rows)).unwrap();
    assert!(lie.secure_boot.unwrap().on);
    assert_ne!(lie.replayed[&7], honest[&7]);
}

#[test]
fn case_35_changed_data_under_an_unchanged_digest_is_log_data_digest() {
    let (pcr, kind, digest, _) = config(GLOBAL, "SecureBoot", &[0]);
    let rows = with(1, (pcr, kind, digest, variable(GLOBAL, "SecureBoot", &[1])));
    assert_eq!(secure_boot(&rows), Err(Reason::LogDataDigest));
}

#[test]
fn case_36_an_empty_secure_boot_variable_is_off() {
    assert_eq!(secure_boot(&with(1, config(GLOBAL, "SecureBoot", &[]))), Ok(false));
    assert_eq!(secure_boot(&with(1, config(GLOBAL, "SecureBoot", &[0]))), Ok(false));
}

#[test]
fn case_36_two_separators_late_config_and_debug_mode_are_log_secureboot() {
    let mut late = good();
    late.push(config(SECURITY, "db", &good_list()));
    let mut twice = good();
    twice.push(separator(7));
    let mut early = good();
    early.insert(1, separator(7));
    let mut debug = good();
    debug.insert(1, row(7, EFI_ACTION, b"UEFI Debug Mode"));
    let mut missing = good();
    missing.remove(8);
    let wrong_value = with(8, row(7, 4, &[0xff; 4]));
    let odd = with(1, config(GLOBAL, "SecureBoot", &[2]));
    let foreign = with(1, config(SECURITY, "SecureBoot", &[1]));
    let mut swapped = good();
    swapped.swap(2, 3);
    let mut without_dbx = good();
    without_dbx.remove(5);
    for rows in [without_dbx, late, twice, early, debug, missing, wrong_value, odd, foreign, swapped, Vec::new()] {
        assert_eq!(secure_boot(&rows), Err(Reason::LogSecureboot));
    }
}

#[test]
fn dma_protection_off_is_a_fact_for_the_policy() {
    let mut rows = good();
    rows.insert(1, row(7, EFI_ACTION, b"DMA Protection Disabled"));
    assert!(examine(&bytes(&rows)).unwrap().secure_boot.unwrap().dma_protection_off);
}

#[test]
fn an_authority_with_other_data_is_unknown_and_not_believed() {
    let (pcr, kind, digest, _) = authority();
    let rows = with(9, (pcr, kind, digest, variable(SECURITY, "db", &[0; 40])));
    assert_eq!(examine(&bytes(&rows)).unwrap().secure_boot.unwrap().authorities, [None]);
}

#[test]
fn case_37_lengths_beyond_the_log_are_log_malformed() {
    let good_log = bytes(&good());
    let header_len = header(&[(0x000b, 32)]).len();
    let mut huge_event = good_log.clone();
    let size_at = header_len + 8 + 4 + 2 + 32;
    huge_event[size_at..size_at + 4].fill(0xff);
    let mut many_digests = good_log.clone();
    many_digests[header_len + 8..header_len + 12].fill(0xff);
    let mut unknown_digest = good_log.clone();
    unknown_digest[header_len + 12] = 0x77;
    let mut unknown_pcr = good_log.clone();
    unknown_pcr[header_len] = 24;
    for log in [huge_event, many_digests, unknown_digest, unknown_pcr, vec![0; MAX_LOG_BYTES + 1]] {
        assert_eq!(refused(&log), Reason::LogMalformed);
    }
}

#[test]
fn case_37_headers_with_unknown_sizes_are_log_malformed() {
    for algorithms in
        [&[(0x000b, 0)][..], &[(0x0099, 32)], &[(0x000b, 31)], &[(0x000b, 32), (0x000b, 32)], &[(0x000b, 32); 17]]
    {
        assert_eq!(refused(&header(algorithms)), Reason::LogMalformed);
    }
}

#[test]
fn case_37_a_log_cut_off_anywhere_is_refused_or_ends_between_events() {
    let log = bytes(&good());
    for end in 0..log.len() {
        if let Ok(facts) = examine(&log[..end]) {
            assert_ne!(facts.replayed, examine(&log).unwrap().replayed);
        }
    }
}

#[test]
fn case_37_too_many_events_are_log_malformed() {
    let rows = vec![row(0, 8, b""); MAX_EVENTS + 1];
    assert_eq!(refused(&bytes(&rows)), Reason::LogMalformed);
}

#[test]
fn case_37_a_startup_locality_of_two_bytes_doubled_or_late_is_log_malformed() {
    let locality = row(0, NO_ACTION, b"StartupLocality\0\x03");
    let mut late = good();
    late.push(locality.clone());
    let long = vec![row(0, NO_ACTION, b"StartupLocality\0\x03\x03")];
    let elsewhere = vec![row(1, NO_ACTION, b"StartupLocality\0\x03")];
    for rows in [late, long, elsewhere, vec![locality.clone(), locality]] {
        assert_eq!(refused(&bytes(&rows)), Reason::LogMalformed);
    }
}

#[test]
fn case_38_signature_lists_with_wrong_sizes_are_log_malformed() {
    let lists = [
        signature_list(76, 0, 0),
        signature_list(76, 0, 100),
        signature_list(76, 0, 16),
        signature_list(20, 0, 48),
        signature_list(0xffff_ffff, 0, 48),
        signature_list(76, 0xffff_fff0, 48),
        signature_list(76, 8, 48),
    ];
    for list in lists {
        assert_eq!(secure_boot(&with(4, config(SECURITY, "db", &list))), Err(Reason::LogMalformed));
    }
}

#[test]
fn case_39_a_log_with_sha1_only_is_log_bank() {
    assert_eq!(refused(&header(&[(0x0004, 20)])), Reason::LogBank);
    let mut legacy = vec![0; 8 + 20];
    legacy.extend(4u32.to_le_bytes());
    legacy.extend([0; 4]);
    assert_eq!(refused(&legacy), Reason::LogBank);
}

#[test]
fn foreign_events_in_pcr_4_are_not_boot_programs() {
    let mut foreign = good();
    foreign.push(row(4, 0xd, b"grub"));
    let mut no_separator = good();
    no_separator.remove(7);
    for rows in [foreign, no_separator] {
        assert!(matches!(examine(&bytes(&rows)).unwrap().boot_apps, Err(LogError::Order { .. })));
    }
    let mut hidden = good();
    hidden.push((4, EFI_ACTION, [1; 32], b"Calling EFI Application from Boot Option".to_vec()));
    assert!(matches!(examine(&bytes(&hidden)).unwrap().boot_apps, Err(LogError::DataDigest(_))));
    assert_eq!(hidden.iter().filter(|r| r.1 == BOOT_SERVICES_APPLICATION).count(), 1);
}

#[test]
fn omitted_boot_attempts_are_told_in_one_way_only() {
    let omitted = |data: &[u8]| {
        let mut rows = good();
        rows.push(row(4, 0x12, data));
        examine(&bytes(&rows)).unwrap().boot_apps
    };
    assert_eq!(omitted(b"BOOT ATTEMPTS OMITTED").unwrap(), [[0x5a; 32]]);
    assert!(matches!(omitted(b"BOOT ATTEMPTS MEASURED"), Err(LogError::Order { .. })));
}

#[test]
fn no_single_flipped_bit_panics() {
    let log = bytes(&good());
    for bit in 0..log.len() * 8 {
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = examine(&flipped);
    }
}
