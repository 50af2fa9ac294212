use chancery_core::reason::Reason;

use crate::{
    court::Court,
    log::{self, Event},
};

/// Secure boot must be proven by the log, and PCR 11 must be as it was.
const POLICY: &str = r#"
[[tpm.policy]]
name = "measured"
match = {}
bank = "sha256"
pcrs = [7, 11]

[tpm.policy.golden]
"11" = ["0000000000000000000000000000000000000000000000000000000000000000"]

[tpm.policy.log]
required = true
secure_boot = "on"

[tpm.policy.state]
first_use = "allow"
on_change = "alert"
"#;

/// A boot: what was measured, and what the log says of it.
struct Boot {
    name: &'static str,
    reason: Reason,
    measured: Vec<Event>,
    log: Vec<u8>,
}

fn boot(name: &'static str, reason: Reason, measured: Vec<Event>, log: Vec<u8>) -> Boot {
    Boot { name, reason, measured, log }
}

/// Every log is synthetic, and its digests were really extended into the TPM that quotes them.
#[test]
fn a_bad_boot_cannot_be_told_as_a_good_one() {
    let court = Court::with_policy(Some(POLICY));
    let mut rig = court.rig("a");
    let (on, off) = (log::secure_boot(1), log::secure_boot(0));
    let dropped: Vec<Event> = on[1..].to_vec();
    let reordered: Vec<Event> = on.iter().rev().cloned().collect();
    // Go-attestation's disclosure: the true events change their type, and good ones are appended and extended.
    let hidden: Vec<Event> = off.iter().map(Event::disguised).chain(on.clone()).collect();
    let overwritten: Vec<Event> = vec![Event { data: on[0].data.clone(), ..off[0].clone() }];
    let overwritten = [overwritten, off[1..].to_vec()].concat();
    let late = [on.clone(), vec![on[0].clone()]].concat();
    let list = log::with_list_of(0);
    let boots = [
        boot("33: one event left out", Reason::LogReplay, on.clone(), log::of(&dropped)),
        boot("33: events in another order", Reason::LogReplay, on.clone(), log::of(&reordered)),
        boot("34: types rewritten, good events appended", Reason::LogSecureboot, hidden.clone(), log::of(&hidden)),
        boot("35: SecureBoot 00 told as 01", Reason::LogDataDigest, off.clone(), log::of(&overwritten)),
        boot("36: secure boot off", Reason::LogSecureboot, off.clone(), log::of(&off)),
        boot("36: driver config after the separator", Reason::LogSecureboot, late.clone(), log::of(&late)),
        boot("37: no log at all, only bytes", Reason::LogMalformed, on.clone(), vec![1, 2, 3]),
        boot("38: signatures of no size in db", Reason::LogMalformed, list.clone(), log::of(&list)),
        boot("39: SHA-1 only", Reason::LogBank, on.clone(), log::of_sha1()),
        boot("39: no log", Reason::LogMissing, on.clone(), Vec::new()),
    ];
    for Boot { name, reason, measured, log } in boots {
        log::measure(&rig, &on);
        rig.log = log::of(&on);
        let member = court.member(&rig);
        log::measure(&rig, &measured);
        court.fails(name, reason, &member, rig.exchange(&court, rig.opening(), |_, _, r| r.event_log = log));
    }
    log::measure(&rig, &on);
    let member = court.member(&rig);
    assert!(court.node(&member.id)["selectors"].to_string().contains("secure_boot:on"));
    rig.swtpm.extend(11, [0x11; 32]).unwrap();
    court.fails("PCR 11 extended", Reason::PcrPolicy, &member, rig.exchange(&court, rig.renewal(), |_, _, _| {}));
}
