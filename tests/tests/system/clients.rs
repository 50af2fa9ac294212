use std::{path::Path, process::Command};

use chancery_tests::playground::Attest;
use spiffe::WorkloadApiClient;

use crate::support::stage;

/// The `spiffe` crate, unmodified: X509-SVID, its bundle, JWT-SVID, its verification and the attestor's validation.
#[test]
fn the_spiffe_crate_fetches_and_verifies_both_kinds() {
    let stage = stage(Attest::JoinToken, |_| {});
    let id = stage.entry_for_us(0, "/web");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = WorkloadApiClient::connect_to(stage.endpoint(0)).await.unwrap();
        let context = client.fetch_x509_context().await.unwrap();
        let svid = context.default_svid().unwrap();
        assert_eq!(svid.spiffe_id().to_string(), id);
        let domain = spiffe::TrustDomain::new("playground.test").unwrap();
        assert!(!context.bundle_set().get(&domain).unwrap().authorities().is_empty());

        let token = client.fetch_jwt_token(["ledger"], None).await.unwrap();
        let bundles = client.fetch_jwt_bundles().await.unwrap();
        let verified = spiffe::JwtSvid::parse_and_validate(&token, &bundles, &["ledger"]).unwrap();
        assert_eq!(verified.spiffe_id().to_string(), id);
        assert!(spiffe::JwtSvid::parse_and_validate(&token, &bundles, &["other"]).is_err());
        client.validate_jwt_token("ledger", &token).await.unwrap();
        assert!(client.validate_jwt_token("other", &token).await.is_err());
    });
}

/// The `spiffe` Python package, unmodified, in a virtual environment of its own (network and python3-venv needed).
#[test]
fn the_python_package_fetches_and_verifies_both_kinds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/python-client/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "target/python-client is missing: `make test` makes it");
        eprintln!("SKIPPED: run scripts/python-client first");
        return;
    }
    let stage = stage(Attest::JoinToken, |_| {});
    let id = stage.entry_for_us(0, "/web");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/fetch.py");
    let out = Command::new(python).arg(script).env("SPIFFE_ENDPOINT_SOCKET", stage.endpoint(0)).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), format!("{id} {id}"));
}
