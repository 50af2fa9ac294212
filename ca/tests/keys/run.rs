//! A CA whose keys are in a token.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chancery_ca::{RunError, Running, config::Config, store::Store};
use chancery_core::{
    leaf,
    lifetime::{Limits, Profile},
};
use chancery_daemon::{clock, shutdown::Shutdown};
use chancery_hsm::{Site, in_child, site, softhsm2};
use chancery_sdk::x509;

fn with_token(test: &str, body: impl AsyncFnOnce(&Site)) {
    if let Some(site) = site() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(body(&site));
    }
    assert!(!in_child(&format!("run::{test}"), &softhsm2("ca-a").unwrap()));
}

async fn config(dir: &Path, site: &Site, extra: &str) -> Config {
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"{0}/data\"\nlisten = \"127.0.0.1:0\"\n\
         admin_socket = \"{0}/s/admin.sock\"\n[keys]\nstore = \"pkcs11\"\n{extra}\n\
         [keys.pkcs11]\nmodule = {1:?}\nuri = {2:?}\npin_file = {3:?}\n",
        dir.display(),
        site.module,
        site.uri,
        site.pin_file
    );
    let config: Config = chancery_daemon::config::parse(&text).unwrap();
    std::fs::create_dir_all(&config.data_dir).unwrap();
    Store::migrate(&config.database()).await.unwrap();
    config
}

async fn start(config: &Config) -> Result<Running, RunError> {
    chancery_ca::start(config.clone(), Shutdown::manual(), clock::system()).await
}

async fn stop(running: Running) {
    running.state.shutdown.begin();
    running.stopped().await.unwrap();
}

/// The authority that signed a leaf, which verifies.
fn signs(running: &Running) -> String {
    let authority = &running.state.authority;
    let key = chancery_ca::crypto::KeyPair::generate().unwrap();
    let limits = Limits { issuer: authority.x509_not_after().unwrap(), node: None };
    let now = running.state.now();
    let validity = Profile::new(600, 600).unwrap().clamp(0, limits, now).unwrap();
    let serial = chancery_ca::crypto::serial().unwrap();
    let leaf = leaf::for_server(&running.state.trust_domain, &key.spki, validity, serial).unwrap();
    let issued = authority.sign_x509(&leaf).unwrap();
    x509::verify(&issued.chain, &authority.x509_bundles().load(), now).unwrap();
    issued.authority_id
}

#[test]
fn a_ca_with_its_keys_in_softhsm2_serves_signs_and_goes_on_after_a_restart() {
    with_token("a_ca_with_its_keys_in_softhsm2_serves_signs_and_goes_on_after_a_restart", async |site| {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), site, "x509_key_type = \"ec-p384\"\njwt_key_type = \"rsa-2048\"").await;
        let first = start(&config).await.unwrap();
        assert!(first.state.is_ready());
        assert_eq!(first.state.keys.labels().unwrap().len(), 2);
        assert!(!config.data_dir.join("keys").exists(), "no key is on disk");
        let authority = signs(&first);
        stop(first).await;
        let second = start(&config).await.unwrap();
        assert_eq!(signs(&second), authority);
        assert_eq!(second.state.keys.labels().unwrap().len(), 2);
        stop(second).await;
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_not_again_by_a_restart() {
    with_token("a_wrong_pin_is_tried_once_and_not_again_by_a_restart", async |site| {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), site, "").await;
        let right = std::fs::read(&site.pin_file).unwrap();
        std::fs::write(&site.pin_file, "00000000").unwrap();
        let told = start(&config).await.err().unwrap().to_string();
        assert!(told.contains("CKR_PIN_INCORRECT") && told.contains("not tried again"), "{told}");
        let told = start(&config).await.err().unwrap().to_string();
        assert!(told.contains("was refused before") && !told.contains("CKR_"), "{told}");
        std::fs::write(&site.pin_file, right).unwrap();
        let running = start(&config).await.unwrap();
        signs(&running);
        stop(running).await;
        assert!(!config.data_dir.join("pin-refused").exists());
    });
}

#[test]
fn a_missing_token_and_an_open_pin_file_end_the_start_with_a_line_that_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    with_token("a_missing_token_and_an_open_pin_file_end_the_start_with_a_line_that_says_what_to_do", async |site| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), site, "").await;
        let token = config.keys.pkcs11.as_mut().unwrap();
        token.uri = "pkcs11:token=other".into();
        let told = start(&config).await.err().unwrap().to_string();
        assert!(told.contains("no token matches") && told.contains("\"ca-a\""), "{told}");
        config.keys.pkcs11.as_mut().unwrap().uri = site.uri.clone();
        std::fs::set_permissions(&site.pin_file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = start(&config).await.err().unwrap().to_string();
        assert!(told.contains("chmod 600"), "{told}");
    });
}

/// A started program that does not outlive its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pin_from_the_environment_is_in_no_environment_any_more() {
    const VARIABLE: &str = "CHANCERY_TEST_PIN";
    with_token("a_pin_from_the_environment_is_in_no_environment_any_more", async |site| {
        let dir = tempfile::tempdir().unwrap();
        config(dir.path(), site, "").await;
        let file = dir.path().join("ca.toml");
        let text = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"{0}/data\"\nlisten = \"127.0.0.1:0\"\n\
             admin_socket = \"{0}/s/admin.sock\"\n[keys]\nstore = \"pkcs11\"\n\
             [keys.pkcs11]\nmodule = {1:?}\nuri = {2:?}\npin_env = {VARIABLE:?}\n",
            dir.path().display(),
            site.module,
            site.uri,
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ca"));
        command.args(["run", "--config"]).arg(&file).env(VARIABLE, chancery_hsm::PIN).stdin(Stdio::null());
        let mut started = Started(command.spawn().unwrap());
        let (socket, began) = (dir.path().join("s/admin.sock"), Instant::now());
        while !socket.exists() {
            assert_eq!(started.0.try_wait().unwrap(), None, "it ended");
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        // The doors open after the login; the process is the one that was started.
        let environment = std::fs::read(format!("/proc/{}/environ", started.0.id())).unwrap();
        let holds = |text: &str| environment.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("SOFTHSM2_CONF=") && !holds(&format!("{VARIABLE}=")) && !holds(chancery_hsm::PIN));
    });
}
