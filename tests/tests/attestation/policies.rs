use chancery_core::reason::Reason;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

use crate::court::{Court, case};

/// PCR 11 is whatever it was before: no boot PCR, so that only the policy watches it.
fn policy(matches: &str, first_use: &str, on_change: &str) -> String {
    format!(
        "[[tpm.policy]]\nname = \"watched\"\nmatch = {matches}\nbank = \"sha256\"\npcrs = [11]\n\
         [tpm.policy.state]\nfirst_use = \"{first_use}\"\non_change = \"{on_change}\"\n"
    )
}

fn reload(court: &Court, policy: &str) {
    std::fs::write(court.scratch().join("policy.toml"), policy).unwrap();
    court.playground.ca(&["policy", "reload"]).unwrap_or_else(|problem| panic!("{problem}"));
}

/// Whether the policy in force would admit the node's last evidence again, and the rules that would not.
fn explained(court: &Court, id: &str) -> (bool, Vec<String>) {
    let told = court.playground.ca(&["policy", "explain", id, "--output", "json"]);
    let told: Value = serde_json::from_str(&told.unwrap_or_else(|problem| panic!("{problem}"))).unwrap();
    let rules = told["rules"].as_array().unwrap().iter().filter(|rule| rule["passed"] == false);
    (told["admitted"] == true, rules.map(|rule| rule["rule"].as_str().unwrap().into()).collect())
}

#[test]
fn what_a_policy_says_of_the_boot_state_before_is_kept() {
    let court = Court::with_policy(Some(&policy("{ manufacturer = \"id:49465800\" }", "allow", "deny")));
    let (rig, other) = (court.rig("a"), court.rig("b"));
    court.refuses(vec![case(
        "no policy for this manufacturer",
        Reason::PolicyMissing,
        rig.exchange(&court, rig.opening(), |_, _, _| {}),
    )]);

    reload(&court, &policy("{}", "deny", "deny"));
    court.refuses(vec![case(
        "a node that was not seen before",
        Reason::PolicyFirstUse,
        rig.exchange(&court, rig.opening(), |_, _, _| {}),
    )]);

    reload(&court, &policy("{}", "allow", "deny"));
    let _bystander = court.member(&other);
    let member = court.member(&rig);
    assert_eq!(explained(&court, &member.id), (true, vec![]));
    // Its first attestation had nothing to be compared with.
    reload(&court, &policy("{}", "deny", "deny"));
    assert_eq!(explained(&court, &member.id), (false, vec!["policy.first_use".into()]));
    // It was seen since: that it is known is enough now.
    court.admit(&rig);
    assert_eq!(explained(&court, &member.id), (true, vec![]));

    rig.swtpm.extend(11, [0x11; 32]).unwrap();
    let changed = rig.exchange(&court, rig.renewal(), |_, _, _| {});
    court.fails("PCR 11 is not as before", Reason::PolicyOnChange, &member, changed);

    // With an alert it comes back, and the change is seen in what was stored, not in the state it was accepted in.
    reload(&court, &policy("{}", "deny", "alert"));
    court.admit(&rig);
    assert_eq!(explained(&court, &member.id), (true, vec![]));
    reload(&court, &policy("{}", "deny", "deny"));
    assert_eq!(explained(&court, &member.id), (false, vec!["policy.on_change".into()]));
    court.admit(&rig);
    assert_eq!(explained(&court, &member.id), (true, vec![]));
}

/// An emulator's firmware version is built in: what is made to differ is what the CA remembers of it.
#[test]
fn changed_firmware_without_activation_is_the_nodes_own_failure() {
    let court = Court::open();
    let (rig, other) = (court.rig("a"), court.rig("b"));
    let _bystander = court.member(&other);
    let member = court.member(&rig);
    court.run(async {
        let url = format!("sqlite:{}", court.playground.authority.database);
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        let set = "UPDATE nodes SET boot_state = json_set(boot_state, '$.firmware_version', '1') WHERE id = $1";
        let done = sqlx::query(set).bind(&member.id).execute(&mut database).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
        database.close().await.unwrap();
    });
    let renewal = rig.exchange(&court, rig.renewal(), |_, asked, _| assert!(asked.challenge.credential.is_none()));
    court.fails("firmware changed, no activation", Reason::FirmwareChanged, &member, renewal);
    // By activation it comes back.
    court.admit(&rig);
}
