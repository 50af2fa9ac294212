//! Modules that do not come back.

use super::*;

#[test]
fn a_full_queue_refuses_at_once_and_late_calls_never_reach_the_token() {
    with_fake("hung::a_full_queue_refuses_at_once_and_late_calls_never_reach_the_token", |fake| {
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
    with_fake("hung::a_hung_call_turns_health_red_and_others_go_on", |fake| {
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
    with_fake("hung::a_module_in_which_every_call_hangs_is_given_up", |fake| {
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
