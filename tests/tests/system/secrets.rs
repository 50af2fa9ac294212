//! Secrets that daemons are given: where they are not found afterwards.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use chancery_tests::{playground::Binaries, process::until};

use crate::support::SOON;

const VARIABLE: &str = "CHANCERY_TEST_PIN";

/// A started program that does not outlive its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_pin_of_an_attestors_token_is_in_no_environment_any_more() {
    let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let conf = chancery_hsm::softhsm2_token(folder.path(), "node").unwrap();
    let certified = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    std::fs::write(path("bundle.pem"), certified.cert.pem()).unwrap();
    // Nobody answers: the node stays unattested, and its door tells so once the token was opened.
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "trust_domain = \"secrets.test\"\nca_address = \"{away}\"\ntrust_bundle = {:?}\ndata_dir = {:?}\n\
         workload_socket = {:?}\nadmin_socket = {:?}\nnode_attestor = \"pkcs11\"\n[pkcs11.token]\n\
         module = \"/usr/lib/softhsm/libsofthsm2.so\"\nuri = \"pkcs11:token=node\"\npin_env = {VARIABLE:?}\n",
        path("bundle.pem"),
        path("data"),
        path("workload.sock"),
        path("admin.sock")
    );
    std::fs::write(path("attestor.toml"), text).unwrap();
    let mut command = Command::new(Binaries::find().unwrap().path("chancery-attestor"));
    command.args(["run", "--config"]).arg(path("attestor.toml")).stdin(Stdio::null());
    command.env("SOFTHSM2_CONF", conf).env(VARIABLE, chancery_hsm::PIN);
    let mut started = Started(command.spawn().unwrap());
    until(SOON, || match started.0.try_wait() {
        Ok(None) if path("admin.sock").exists() => Ok(()),
        state => Err(format!("no door yet: {state:?}")),
    })
    .unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", started.0.id())).unwrap();
    let holds = |text: &str| environment.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("SOFTHSM2_CONF=") && !holds(&format!("{VARIABLE}=")) && !holds(chancery_hsm::PIN));
}
