//! Every row of the table of answers, by a module that answers, lies or hangs as it is told.

mod answers;
mod hung;
mod keys;
mod opening;

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
const ATTRIBUTE_READ_ONLY: u64 = 0x10;
const ATTRIBUTE_SENSITIVE: u64 = 0x11;
const ATTRIBUTE_TYPE_INVALID: u64 = 0x12;
const ATTRIBUTE_VALUE_INVALID: u64 = 0x13;
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
const PIN_INVALID: u64 = 0xa1;
const PIN_LEN_RANGE: u64 = 0xa2;
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
