//! What the pool does about each answer of a module.

use super::*;

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
    one_answer_is_survived("answers::a_lost_session_is_opened_again", "C_SignInit", &codes);
}

#[test]
fn a_lost_login_is_made_again() {
    with_fake("answers::a_lost_login_is_made_again", |fake| {
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
    one_answer_is_survived("answers::a_lost_handle_is_looked_up_again", "C_SignInit", &codes);
}

#[test]
fn a_session_or_handle_that_is_lost_again_is_told() {
    with_fake("answers::a_session_or_handle_that_is_lost_again_is_told", |fake| {
        let token = fake.open();
        let key = key(&token);
        for code in [SESSION_CLOSED, KEY_HANDLE_INVALID] {
            let before = fake.calls("C_SignInit");
            fake.say("C_SignInit", &format!("code {code:x} *"));
            let told = key.sign(b"m").unwrap_err();
            assert!(matches!(told, TokenError::Refused { .. }), "{code:#x}: {told}");
            assert_eq!(fake.calls("C_SignInit"), before + 2, "{code:#x}: twice, not more");
            fake.hush("C_SignInit");
            key.sign(b"m").unwrap();
        }
    });
}

#[test]
fn an_unclear_answer_is_tried_once_more_and_then_told() {
    with_fake("answers::an_unclear_answer_is_tried_once_more_and_then_told", |fake| {
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
    with_fake("answers::a_token_that_went_away_is_initialised_again", |fake| {
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
    with_fake("answers::a_busy_token_is_waited_for_and_then_refused", |fake| {
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
    with_fake("answers::a_refusal_is_told_at_once", |fake| {
        let token = fake.open();
        let key = key(&token);
        let codes = [
            MECHANISM_INVALID,
            KEY_TYPE_INCONSISTENT,
            KEY_FUNCTION_NOT_PERMITTED,
            ATTRIBUTE_READ_ONLY,
            ATTRIBUTE_SENSITIVE,
            ATTRIBUTE_TYPE_INVALID,
            ATTRIBUTE_VALUE_INVALID,
            DATA_LEN_RANGE,
            VENDOR_DEFINED,
        ];
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
