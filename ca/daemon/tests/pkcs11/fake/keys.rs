//! What a module says of keys and signatures, and is not believed.

use super::*;

#[test]
fn a_signature_that_does_not_verify_is_never_released() {
    with_fake("keys::a_signature_that_does_not_verify_is_never_released", |fake| {
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
    with_fake("keys::another_keys_signature_is_never_released", |fake| {
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
    with_fake("keys::a_key_whose_protection_is_not_told_or_told_wrong_is_destroyed_again", |fake| {
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
    with_fake("keys::a_known_key_that_became_extractable_is_not_used", |fake| {
        let token = fake.open();
        let key = key(&token);
        fake.say("C_GetAttributeValue", &format!("lie {CKA_EXTRACTABLE:x} *"));
        let told = token.find(key.label(), Some(key.spki())).unwrap_err();
        assert!(matches!(told, TokenError::Attribute { .. }), "{told}");
    });
}

#[test]
fn an_unclear_answer_to_the_making_of_a_key_makes_one_key() {
    with_fake("keys::an_unclear_answer_to_the_making_of_a_key_makes_one_key", |fake| {
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
    with_fake("keys::a_kind_of_key_that_the_token_lacks_is_told", |fake| {
        let token = fake.open();
        fake.say("C_GenerateKeyPair", &format!("code {MECHANISM_INVALID:x} *"));
        let told = token.generate(&label("none"), KeyType::EcP256).unwrap_err();
        assert!(matches!(told, TokenError::Unsupported { .. }), "{told}");
    });
}

#[test]
fn a_strict_template_that_is_refused_is_asked_again_without_what_tokens_quarrel_about() {
    with_fake("keys::a_strict_template_that_is_refused_is_asked_again_without_what_tokens_quarrel_about", |fake| {
        let token = fake.open();
        for code in [ATTRIBUTE_TYPE_INVALID, ATTRIBUTE_VALUE_INVALID] {
            let before = fake.calls("C_GenerateKeyPair");
            fake.say("C_GenerateKeyPair", &format!("code {code:x} 1"));
            key(&token).sign(b"m").unwrap();
            assert_eq!(fake.calls("C_GenerateKeyPair"), before + 2, "{code:#x}");
            // What protects the key is never given up: the second refusal ends it.
            fake.say("C_GenerateKeyPair", &format!("code {code:x} 2"));
            let told = token.generate(&label("none"), KeyType::EcP256).unwrap_err();
            assert!(matches!(told, TokenError::Refused { .. }), "{code:#x}: {told}");
        }
    });
}
