//! Every row of the table of answers, by a module that answers, lies or hangs as it is told.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_daemon::{
    config::Span,
    key_type::KeyType,
    pkcs11::{Hooks, State, Token, TokenConfig, TokenError, TokenKey},
};
use chancery_hsm::{Site, in_child, site, softhsm2, softhsm2_token};

use crate::contract::{config, label};

// CKR_ values (PKCS#11 v3.1, 6.1).
const HOST_MEMORY: u64 = 0x02;
const SLOT_ID_INVALID: u64 = 0x03;
const GENERAL_ERROR: u64 = 0x05;
const FUNCTION_FAILED: u64 = 0x06;
const DATA_LEN_RANGE: u64 = 0x21;
const DEVICE_ERROR: u64 = 0x30;
const DEVICE_MEMORY: u64 = 0x31;
const DEVICE_REMOVED: u64 = 0x32;
const FUNCTION_CANCELED: u64 = 0x50;
const KEY_HANDLE_INVALID: u64 = 0x60;
const KEY_TYPE_INCONSISTENT: u64 = 0x63;
const KEY_FUNCTION_NOT_PERMITTED: u64 = 0x68;
const MECHANISM_INVALID: u64 = 0x70;
const OBJECT_HANDLE_INVALID: u64 = 0x82;
const OPERATION_ACTIVE: u64 = 0x90;
const OPERATION_NOT_INITIALIZED: u64 = 0x91;
const PIN_INCORRECT: u64 = 0xa0;
const PIN_EXPIRED: u64 = 0xa3;
const PIN_LOCKED: u64 = 0xa4;
const SESSION_CLOSED: u64 = 0xb0;
const SESSION_COUNT: u64 = 0xb1;
const SESSION_HANDLE_INVALID: u64 = 0xb3;
const TOKEN_NOT_PRESENT: u64 = 0xe0;
const TOKEN_NOT_RECOGNIZED: u64 = 0xe1;
const USER_NOT_LOGGED_IN: u64 = 0x101;
const CRYPTOKI_NOT_INITIALIZED: u64 = 0x190;
const VENDOR_DEFINED: u64 = 0x8000_0042;

// Attributes.
const CKA_SENSITIVE: u64 = 0x103;
const CKA_EXTRACTABLE: u64 = 0x162;
const CKA_LOCAL: u64 = 0x163;
const CKA_NEVER_EXTRACTABLE: u64 = 0x164;
const CKA_ALWAYS_SENSITIVE: u64 = 0x165;

// Flags of a token.
const USER_PIN_FINAL_TRY: u64 = 0x2_0000;
const USER_PIN_LOCKED: u64 = 0x4_0000;

/// A fake in front of a SoftHSM2 token, and its script.
struct Fake {
    site: Site,
    script: PathBuf,
}

/// Runs `body` in a child that can load the fake.
fn with_fake(test: &str, body: impl FnOnce(&Fake)) {
    if let Some(site) = site() {
        let script = PathBuf::from(std::env::var_os("CHANCERY_FAKE_SCRIPT").unwrap());
        return body(&Fake { site, script });
    }
    let mut behind = softhsm2("ca-a").unwrap();
    let script = behind.pin_file.with_file_name("script");
    fs::create_dir(&script).unwrap();
    behind.env.push(("CHANCERY_FAKE_MODULE".into(), behind.module.display().to_string()));
    behind.env.push(("CHANCERY_FAKE_SCRIPT".into(), script.display().to_string()));
    behind.module = library();
    assert!(!in_child(&format!("fake::{test}"), &behind));
}

/// Cargo puts it beside the tests, whose dependency it is.
fn library() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap();
    let name = "libchancery_fake_pkcs11.so";
    let found = [folder.join(name), folder.parent().unwrap().join(name)].into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name} in {} or above", folder.display()))
}

impl Fake {
    fn config(&self) -> TokenConfig {
        config(&self.site)
    }

    /// One worker: the next call is the one the script is about.
    fn open(&self) -> Arc<Token> {
        let mut config = self.config();
        config.workers = 1;
        Token::open(config).unwrap()
    }

    fn say(&self, function: &str, rule: &str) {
        fs::write(self.script.join(function), rule).unwrap();
    }

    fn says_still(&self, function: &str) -> bool {
        self.script.join(function).exists()
    }

    fn hush(&self, function: &str) {
        let _ = fs::remove_file(self.script.join(function));
    }

    fn calls(&self, function: &str) -> u64 {
        fs::metadata(self.script.join(function).with_extension("calls")).map_or(0, |f| f.len())
    }
}

fn key(token: &Arc<Token>) -> TokenKey {
    token.generate(&label("fake"), KeyType::EcP256).unwrap()
}

/// Each code, once: the call succeeds, and did not before it was dealt with.
fn one_answer_is_survived(test: &str, function: &str, codes: &[u64]) {
    with_fake(test, |fake| {
        let token = fake.open();
        let key = key(&token);
        for code in codes {
            key.sign(b"before").unwrap();
            fake.say(function, &format!("code {code:x} 1"));
            key.sign(b"m").unwrap_or_else(|e| panic!("{code:#x}: {e}"));
            assert!(!fake.says_still(function), "{code:#x} was never answered");
            assert_eq!(token.health().state, State::Up, "{code:#x}");
        }
    });
}

#[test]
fn a_lost_session_is_opened_again() {
    let codes = [SESSION_HANDLE_INVALID, SESSION_CLOSED, OPERATION_ACTIVE, OPERATION_NOT_INITIALIZED];
    one_answer_is_survived("a_lost_session_is_opened_again", "C_SignInit", &codes);
}

#[test]
fn a_lost_login_is_made_again() {
    with_fake("a_lost_login_is_made_again", |fake| {
        let token = fake.open();
        let key = key(&token);
        let logins = fake.calls("C_Login");
        fake.say("C_SignInit", &format!("code {USER_NOT_LOGGED_IN:x} 1"));
        key.sign(b"m").unwrap();
        assert_eq!(fake.calls("C_Login"), logins + 1);
        fake.say("C_SignInit", &format!("code {USER_NOT_LOGGED_IN:x} *"));
        assert!(matches!(key.sign(b"m"), Err(TokenError::Refused { .. })));
        assert_eq!(fake.calls("C_Login"), logins + 2, "one login for one call");
    });
}

#[test]
fn a_lost_handle_is_looked_up_again() {
    let codes = [KEY_HANDLE_INVALID, OBJECT_HANDLE_INVALID];
    one_answer_is_survived("a_lost_handle_is_looked_up_again", "C_SignInit", &codes);
}

#[test]
fn an_unclear_answer_is_tried_once_more_and_then_told() {
    with_fake("an_unclear_answer_is_tried_once_more_and_then_told", |fake| {
        let token = fake.open();
        let key = key(&token);
        for code in [GENERAL_ERROR, FUNCTION_FAILED] {
            fake.say("C_Sign", &format!("code {code:x} 1"));
            key.sign(b"m").unwrap();
            let before = fake.calls("C_Sign");
            fake.say("C_Sign", &format!("code {code:x} *"));
            let told = key.sign(b"m").unwrap_err();
            assert!(matches!(told, TokenError::Refused { .. }), "{told}");
            assert_eq!(fake.calls("C_Sign"), before + 2, "twice, not more");
            fake.hush("C_Sign");
        }
    });
}

#[test]
fn a_token_that_went_away_is_initialised_again() {
    with_fake("a_token_that_went_away_is_initialised_again", |fake| {
        let token = fake.open();
        let key = key(&token);
        let codes = [
            CRYPTOKI_NOT_INITIALIZED,
            DEVICE_ERROR,
            DEVICE_REMOVED,
            TOKEN_NOT_PRESENT,
            TOKEN_NOT_RECOGNIZED,
            SLOT_ID_INVALID,
        ];
        for code in codes {
            let (generation, began) = (token.generation(), Instant::now());
            fake.say("C_SignInit", &format!("code {code:x} 1"));
            // Two initialisations are at least a second apart: until then the token counts as away.
            while let Err(problem) = key.sign(b"m") {
                assert!(matches!(problem, TokenError::Unavailable(_)), "{code:#x}: {problem}");
                assert!(began.elapsed() < Duration::from_secs(10), "{code:#x}: {problem}");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(token.generation() > generation || began.elapsed() > Duration::from_millis(50), "{code:#x}");
        }
        assert!(token.generation() > 1);
        assert_eq!(token.health().state, State::Up);
    });
}

#[test]
fn a_busy_token_is_waited_for_and_then_refused() {
    with_fake("a_busy_token_is_waited_for_and_then_refused", |fake| {
        let token = fake.open();
        let key = key(&token);
        for code in [SESSION_COUNT, HOST_MEMORY, DEVICE_MEMORY, FUNCTION_CANCELED] {
            fake.say("C_SignInit", &format!("code {code:x} 2"));
            key.sign(b"m").unwrap();
            fake.say("C_SignInit", &format!("code {code:x} *"));
            assert!(matches!(key.sign(b"m"), Err(TokenError::Overloaded(_))), "{code:#x}");
            fake.hush("C_SignInit");
        }
    });
}

#[test]
fn a_refusal_is_told_at_once() {
    with_fake("a_refusal_is_told_at_once", |fake| {
        let token = fake.open();
        let key = key(&token);
        let codes =
            [MECHANISM_INVALID, KEY_TYPE_INCONSISTENT, KEY_FUNCTION_NOT_PERMITTED, DATA_LEN_RANGE, VENDOR_DEFINED];
        for code in codes {
            let before = fake.calls("C_SignInit");
            fake.say("C_SignInit", &format!("code {code:x} *"));
            assert!(matches!(key.sign(b"m"), Err(TokenError::Refused { .. })), "{code:#x}");
            assert_eq!(fake.calls("C_SignInit"), before + 1, "{code:#x}");
            fake.hush("C_SignInit");
            key.sign(b"m").unwrap();
        }
    });
}

#[test]
fn a_refused_pin_is_tried_once_by_any_number_of_threads() {
    with_fake("a_refused_pin_is_tried_once_by_any_number_of_threads", |fake| {
        for code in [PIN_INCORRECT, PIN_EXPIRED, PIN_LOCKED] {
            let before = fake.calls("C_Login");
            fake.say("C_Login", &format!("code {code:x} *"));
            let told = Token::open(fake.config()).unwrap_err();
            assert!(matches!(told, TokenError::AuthFailed(_)), "{told}");
            assert_eq!(fake.calls("C_Login"), before + 1);
            fake.hush("C_Login");
        }
        // A PIN that stops being right while the token is in use.
        let token = Token::open(fake.config()).unwrap();
        let key = key(&token);
        let before = fake.calls("C_Login");
        fake.say("C_Login", &format!("code {PIN_INCORRECT:x} *"));
        fake.say("C_SignInit", &format!("code {USER_NOT_LOGGED_IN:x} *"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(matches!(key.sign(b"m"), Err(TokenError::AuthFailed(_)))));
            }
        });
        assert_eq!(fake.calls("C_Login"), before + 1);
        assert_eq!(token.health().state, State::AuthFailed);
    });
}

#[test]
fn a_token_on_its_last_try_is_not_logged_in_to() {
    with_fake("a_token_on_its_last_try_is_not_logged_in_to", |fake| {
        for (flag, word) in [(USER_PIN_FINAL_TRY, "one more wrong PIN"), (USER_PIN_LOCKED, "locked")] {
            fake.say("C_GetTokenInfo", &format!("flags {flag:x} *"));
            let told = Token::open(fake.config()).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(fake.calls("C_Login"), 0);
    });
}

#[test]
fn a_signature_that_does_not_verify_is_never_released() {
    with_fake("a_signature_that_does_not_verify_is_never_released", |fake| {
        let token = fake.open();
        let key = key(&token);
        fake.say("C_Sign", "flip 0 1");
        key.sign(b"m").unwrap();
        fake.say("C_Sign", "flip 0 *");
        assert!(matches!(key.sign(b"m"), Err(TokenError::BadSignature(_))));
        assert_eq!(token.health().state, State::Degraded);
        fake.hush("C_Sign");
        key.sign(b"m").unwrap();
        assert_eq!(token.health().state, State::Up);
    });
}

#[test]
fn another_keys_signature_is_never_released() {
    with_fake("another_keys_signature_is_never_released", |fake| {
        let token = fake.open();
        let (first, second) = (key(&token), key(&token));
        fake.say("C_SignInit", "first 0 *");
        first.sign(b"m").unwrap();
        assert!(matches!(second.sign(b"m"), Err(TokenError::BadSignature(_))));
        fake.hush("C_SignInit");
        second.sign(b"m").unwrap();
    });
}

#[test]
fn a_key_whose_protection_is_not_told_or_told_wrong_is_destroyed_again() {
    with_fake("a_key_whose_protection_is_not_told_or_told_wrong_is_destroyed_again", |fake| {
        let token = fake.open();
        for attribute in [CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE] {
            for lie in ["lie", "absent"] {
                let label = label("lie");
                fake.say("C_GetAttributeValue", &format!("{lie} {attribute:x} *"));
                let told = token.generate(&label, KeyType::EcP256).unwrap_err();
                assert!(matches!(told, TokenError::Attribute { .. }), "{lie} {attribute:#x}: {told}");
                fake.hush("C_GetAttributeValue");
                assert!(token.find(&label, None).unwrap().is_none(), "{lie} {attribute:#x}: the pair is still there");
            }
        }
    });
}

#[test]
fn a_known_key_that_became_extractable_is_not_used() {
    with_fake("a_known_key_that_became_extractable_is_not_used", |fake| {
        let token = fake.open();
        let key = key(&token);
        fake.say("C_GetAttributeValue", &format!("lie {CKA_EXTRACTABLE:x} *"));
        let told = token.find(key.label(), Some(key.spki())).unwrap_err();
        assert!(matches!(told, TokenError::Attribute { .. }), "{told}");
    });
}

#[test]
fn an_unclear_answer_to_the_making_of_a_key_makes_one_key() {
    with_fake("an_unclear_answer_to_the_making_of_a_key_makes_one_key", |fake| {
        let token = fake.open();
        for code in [GENERAL_ERROR, DEVICE_MEMORY] {
            let label = label("unclear");
            fake.say("C_GenerateKeyPair", &format!("after {code:x} 1"));
            let key = token.generate(&label, KeyType::EcP256).unwrap();
            key.sign(b"m").unwrap();
            assert_eq!(token.labels(&label).unwrap().len(), 1, "{code:#x}");
            assert!(token.find(&label, Some(key.spki())).unwrap().is_some());
        }
    });
}

#[test]
fn a_kind_of_key_that_the_token_lacks_is_told() {
    with_fake("a_kind_of_key_that_the_token_lacks_is_told", |fake| {
        let token = fake.open();
        fake.say("C_GenerateKeyPair", &format!("code {MECHANISM_INVALID:x} *"));
        let told = token.generate(&label("none"), KeyType::EcP256).unwrap_err();
        assert!(matches!(told, TokenError::Unsupported { .. }), "{told}");
    });
}

#[test]
fn two_tokens_of_one_label_and_none_end_the_start() {
    with_fake("two_tokens_of_one_label_and_none_end_the_start", |fake| {
        let folder = fake.site.pin_file.parent().unwrap();
        softhsm2_token(folder, "ca-a").unwrap();
        let told = Token::open(fake.config()).unwrap_err();
        assert!(matches!(&told, TokenError::SeveralTokens { count: 2, .. }), "{told}");
        assert!(told.to_string().contains("add serial="), "{told}");
        let mut config = fake.config();
        config.uri = "pkcs11:token=ca-b".into();
        let told = Token::open(config).unwrap_err();
        assert!(matches!(told, TokenError::NoToken { .. }) && told.to_string().contains("\"ca-a\""), "{told}");
        assert_eq!(fake.calls("C_Login"), 0, "no PIN for a token that is not the one");
    });
}

#[test]
fn a_full_queue_refuses_at_once_and_late_calls_never_reach_the_token() {
    with_fake("a_full_queue_refuses_at_once_and_late_calls_never_reach_the_token", |fake| {
        let mut config = fake.config();
        (config.workers, config.queue, config.deadline) = (1, 2, Span(Duration::from_millis(400)));
        let token = Token::open(config).unwrap();
        let key = key(&token);
        fake.say("C_Sign", "hang 0 *");
        let began = Instant::now();
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| match key.sign(b"m") {
                    Err(TokenError::Overloaded(_)) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    other => assert!(matches!(other, Err(TokenError::Timeout(_))), "{other:?}"),
                });
            }
        });
        assert!(refused.load(Ordering::Relaxed) >= 3 && began.elapsed() < Duration::from_secs(3));
        let signs = fake.calls("C_Sign");
        fake.hush("C_Sign");
        while key.sign(b"m").is_err() {
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        assert!(fake.calls("C_Sign") <= signs + 2, "calls that came too late were made all the same");
    });
}

static GAVE_UP: AtomicUsize = AtomicUsize::new(0);

fn count_giving_up() {
    GAVE_UP.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_hung_call_turns_health_red_and_others_go_on() {
    with_fake("a_hung_call_turns_health_red_and_others_go_on", |fake| {
        let mut config = fake.config();
        (config.workers, config.deadline) = (2, Span(Duration::from_millis(300)));
        let hooks = Hooks { give_up: count_giving_up, marker: None };
        let token = Token::open_with(config, hooks).unwrap();
        let key = key(&token);
        fake.say("C_SignInit", "hang 0 1");
        assert!(matches!(key.sign(b"hangs"), Err(TokenError::Timeout(_))));
        // The first call hangs with its rule read; without the file it would come back, so another stands there.
        let began = Instant::now();
        while token.health().state != State::Hung {
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", token.health());
            std::thread::sleep(Duration::from_millis(10));
        }
        fake.hush("C_SignInit");
        while token.health().state != State::Up {
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", token.health());
            std::thread::sleep(Duration::from_millis(10));
        }
        key.sign(b"m").unwrap();
        assert_eq!(GAVE_UP.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_module_in_which_every_call_hangs_is_given_up() {
    with_fake("a_module_in_which_every_call_hangs_is_given_up", |fake| {
        let mut config = fake.config();
        (config.workers, config.deadline) = (2, Span(Duration::from_millis(100)));
        let hooks = Hooks { give_up: count_giving_up, marker: None };
        let token = Token::open_with(config, hooks).unwrap();
        let key = key(&token);
        for function in ["C_SignInit", "C_GetSessionInfo"] {
            fake.say(function, "hang 0 *");
        }
        let began = Instant::now();
        while GAVE_UP.load(Ordering::SeqCst) == 0 {
            assert!(matches!(key.sign(b"m"), Err(TokenError::Timeout(_))));
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", token.health());
        }
        assert_eq!(token.health().state, State::Hung);
        fake.hush("C_SignInit");
        fake.hush("C_GetSessionInfo");
    });
}
