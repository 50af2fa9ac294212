//! Endpoint URIs, rule by rule (Workload Endpoint section 4).
#![cfg(feature = "client")]

use std::path::Path;

use chancery_sdk::workload::{Endpoint, EndpointError};

fn all_refused(uris: &[&str]) {
    for uri in uris {
        assert!(Endpoint::parse(uri).is_err(), "{uri:?} was accepted");
    }
}

fn unix(path: &str) -> Result<Endpoint, EndpointError> {
    Ok(Endpoint::Unix(path.into()))
}

#[test]
fn we_13_only_unix_and_tcp_uris_are_endpoints() {
    all_refused(&[
        "",
        "/run/a.sock",
        "http://127.0.0.1:80",
        "npipe:x",
        "blah",
        "unix:///run/\u{7}a.sock",
        "unix:///run/a b",
        "unix:///run/\u{e4}",
        "unix:///run/%zz",
        "unix:///run/%2",
        "unix:///run/a%00b",
        "://",
    ]);
    assert_eq!(Endpoint::parse("UNIX:///run/a.sock"), unix("/run/a.sock"));
    assert_eq!(Endpoint::parse("unix:///run/a%20b"), unix("/run/a b"));
}

#[test]
fn we_14_unix_uri_with_authority_is_refused() {
    for uri in ["unix://host/a.sock", "unix://foo", "unix://u:p@h/a"] {
        assert_eq!(Endpoint::parse(uri), Err(EndpointError::Authority), "{uri}");
    }
}

#[test]
fn cf_06_unix_foo_is_refused_although_go_spiffe_takes_it() {
    assert_eq!(Endpoint::parse("unix://foo"), Err(EndpointError::Authority));
}

#[test]
fn we_15_unix_path_is_present_and_absolute() {
    assert_eq!(Endpoint::parse("unix:///run/a.sock"), unix("/run/a.sock"));
    assert_eq!(Endpoint::parse("unix:/run/a.sock"), unix("/run/a.sock"));
    all_refused(&["unix://", "unix:a.sock", "unix:"]);
    assert_eq!(Endpoint::unix(Path::new("a.sock")), Err(EndpointError::Path));
}

#[test]
fn we_16_unix_uri_has_no_query_or_fragment() {
    all_refused(&["unix:///a?x", "unix:///a#x", "unix:///a?", "unix:///a#", "unix:?x"]);
}

#[test]
fn we_17_tcp_host_is_an_ip_address() {
    for uri in ["tcp://127.0.0.1:8000", "tcp://[::1]:8000"] {
        assert_eq!(Endpoint::parse(uri).unwrap().to_string(), uri);
    }
    all_refused(&["tcp://localhost:8000", "tcp://::1:8000", "tcp://[fe80::1%251]:8000", "tcp://[fe80::1%1]:8000"]);
}

#[test]
fn we_18_tcp_port_is_present() {
    all_refused(&["tcp://1.2.3.4", "tcp://1.2.3.4:", "tcp://1.2.3.4:0", "tcp://1.2.3.4:65536"]);
}

#[test]
fn we_19_tcp_uri_has_nothing_but_address_and_port() {
    all_refused(&[
        "tcp://1.2.3.4:5/",
        "tcp://1.2.3.4:5/foo",
        "tcp://1.2.3.4:5?x",
        "tcp://1.2.3.4:5#x",
        "tcp://j:d@1.2.3.4:5",
        "tcp:opaque",
        "tcp:1.2.3.4:5",
    ]);
}
