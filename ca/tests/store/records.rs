use chancery_ca::store::*;
use chancery_core::instance::Standing;
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    cleaning_up_never_un_revokes
    expired_tokens_go_after_ninety_days
}

const DAY: i64 = 86_400;

/// Small numbers by a fixed rule, so that a failure comes again (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// How an instance ended, and whether its process is known to be gone.
const ENDS: [(&str, bool); 6] = [
    ("process-ended", true),
    ("reconciled", true),
    ("new-boot", true),
    ("operator", false),
    ("node-silent", false),
    ("class-deleted", false),
];

struct Life {
    run: u8,
    expires_at: UnixTime,
    /// `None` while it runs.
    end: Option<(&'static str, bool)>,
}

impl Life {
    fn begin(&self) -> BeginInstance {
        let mut fact = sample::begin(1, self.run);
        fact.instance.newest.expires_at = self.expires_at;
        fact
    }

    /// Whether cleaning up at `now` may have taken the record away.
    fn may_go(&self, now: UnixTime, ended_by: UnixTime) -> bool {
        let over = now.plus(-90 * DAY);
        self.end.is_some_and(|(_, gone)| gone) && self.expires_at <= over && ended_by <= over
    }
}

async fn lives(db: &Bench, dice: &mut Dice) -> Vec<Life> {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    let mut lives = Vec::new();
    for run in 1..40 {
        let expires_at = sample::now().plus(i64::try_from(dice.below(200)).unwrap() * DAY - 100 * DAY);
        let end = ENDS.get(usize::try_from(dice.below(8)).unwrap()).copied();
        let life = Life { run, expires_at, end };
        db.done(Fact::BeginInstance(life.begin())).await;
        if let Some((reason, _)) = end {
            let id = life.begin().instance.id;
            db.done(Fact::EndInstance(EndInstance { id, node_id: None, reason })).await;
        }
        lives.push(life);
    }
    lives
}

/// Whatever is cleaned when: who runs is listed, who was ended is listed as such until nobody could use what he had, and
/// no process that may live on begins again.
async fn cleaning_up_never_un_revokes(db: Bench) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let lives = lives(&db, &mut dice).await;
    let mut now = sample::now();
    let ended_by = now;
    let mut gone = 0;
    // The last moment is later than every end can matter.
    for least in [0, 0, 0, 0, 0, 300] {
        now = now.plus(i64::try_from(least + dice.below(45)).unwrap() * DAY + 1);
        db.done_or_nothing(Fact::PruneRecords(Moment { now })).await;
        gone = 0;
        for life in &lives {
            let id = life.begin().instance.id;
            let standing = db.store.instance(&id).await.unwrap().map(|instance| instance.standing);
            let want = if life.end.is_some() { Standing::Ended } else { Standing::Good };
            if life.may_go(now, ended_by) {
                assert_eq!(standing, None, "{id} is over and takes room");
                assert_eq!(db.store.key_owner(&[life.run; 32]).await.unwrap(), None);
                gone += 1;
                continue;
            }
            assert_eq!(standing, Some(want), "{id} at {now}");
            assert_eq!(db.store.key_owner(&[life.run; 32]).await.unwrap(), Some(id.clone()));
            let mut again = sample::begin(1, 200);
            again.instance.start_token = [life.run; 32];
            let used = if life.end.is_some() { Refusal::ProcessEnded(id.to_string()) } else { Refusal::StartTokenUsed };
            assert_eq!(db.refused(Fact::BeginInstance(again)).await, used);
            let mut again = sample::begin(1, 201);
            again.spki_sha256 = [life.run; 32];
            assert_eq!(db.refused(Fact::BeginInstance(again)).await, Refusal::KeyUsed);
        }
    }
    let dead = lives.iter().filter(|life| life.end.is_some_and(|(_, gone)| gone)).count();
    assert!(gone == dead && gone > 5 && gone < lives.len(), "{gone} of {} went", lives.len());
}

async fn expired_tokens_go_after_ninety_days(db: Bench) {
    let token = |hash: &str, days: i64| {
        let expires_at = sample::now().plus(days * DAY);
        Fact::CreateToken(CreateToken { hash_hex: hash.into(), expires_at, alias: None })
    };
    db.done(token("aa", 1)).await;
    db.done(token("bb", 20)).await;
    let before = db.events().await.len();
    let at = |days: i64| Fact::PruneRecords(Moment { now: sample::now().plus(days * DAY) });
    db.done_or_nothing(at(89)).await;
    assert_eq!(db.events().await.len(), before, "nothing changed, nothing is recorded");
    db.done_or_nothing(at(92)).await;
    assert_eq!(db.kinds_from(i64::try_from(before).unwrap()).await, [("records.pruned".into(), String::new())]);
    // The token that is gone is unknown; the other one is still there.
    assert_eq!(db.refused(Fact::AdmitNode(sample::token_admission("aa"))).await, Refusal::TokenUnknown);
    assert_eq!(db.refused(token("bb", 1)).await, Refusal::AlreadyExists(None));
}
