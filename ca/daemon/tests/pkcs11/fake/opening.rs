//! PINs, and which token it is.

use super::*;

#[test]
fn a_refused_pin_is_tried_once_by_any_number_of_threads() {
    with_fake("opening::a_refused_pin_is_tried_once_by_any_number_of_threads", |fake| {
        for code in [PIN_INCORRECT, PIN_INVALID, PIN_LEN_RANGE, PIN_EXPIRED, PIN_LOCKED] {
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
    with_fake("opening::a_token_on_its_last_try_is_not_logged_in_to", |fake| {
        for (flag, word) in [(USER_PIN_FINAL_TRY, "one more wrong PIN"), (USER_PIN_LOCKED, "locked")] {
            fake.say("C_GetTokenInfo", &format!("flags {flag:x} *"));
            let told = Token::open(fake.config()).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(fake.calls("C_Login"), 0);
    });
}

#[test]
fn two_tokens_of_one_label_and_none_end_the_start() {
    with_fake("opening::two_tokens_of_one_label_and_none_end_the_start", |fake| {
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
