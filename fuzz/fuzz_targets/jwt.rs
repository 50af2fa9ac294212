//! A token is accepted or refused, never a panic.
#![no_main]

use chancery_sdk::{
    jwt::{JwtBundleSet, JwtSvid},
    time::UnixTime,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|token: &str| {
    let _ = JwtSvid::verify(token, &JwtBundleSet::default(), "a", UnixTime(0), 0);
});
