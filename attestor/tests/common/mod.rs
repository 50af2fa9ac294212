//! A TPM of its own for every test: a copy of one that was manufactured once.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod ca;
pub mod node;
#[path = "../../../tests/src/process.rs"]
pub mod process;
#[path = "../../../tests/src/swtpm.rs"]
pub mod swtpm;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use chancery_attestor::tpm::{Bus, Options, Tpm};
use swtpm::{Manufacturer, Swtpm, copy_state};
use tempfile::TempDir;

/// An emulator and the folder it ends with.
pub struct Machine {
    pub tpm: Swtpm,
    pub dir: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_state(&manufactured(), &dir.path().join("tpm")).unwrap();
        let tpm = Swtpm::start(&dir.path().join("tpm")).unwrap();
        Self { tpm, dir }
    }

    pub fn options(&self, bus: Bus) -> Options {
        Options {
            tcti: self.tpm.tcti().parse().unwrap(),
            trust_domain: "td.test".into(),
            endorsement_auth: Default::default(),
            owner_auth: Default::default(),
            bus,
        }
    }

    pub fn open(&self) -> Tpm {
        Tpm::open(self.options(Bus::Internal)).unwrap()
    }
}

/// Memory of a finished TPM, made by the first test that asks; tests run in processes of their own.
fn manufactured() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swtpm");
    fs::create_dir_all(&dir).unwrap();
    let lock = File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let (state, done) = (dir.join("state"), dir.join("done"));
    if !done.exists() {
        let _ = fs::remove_dir_all(dir.join("maker"));
        let _ = fs::remove_dir_all(&state);
        Manufacturer::new(&dir.join("maker")).unwrap().make(&state).unwrap();
        fs::write(done, "").unwrap();
    }
    state
}

/// The certificate that signed the EK certificates, PEM.
pub fn issuer_pem() -> String {
    manufactured();
    fs::read_to_string(Path::new(env!("CARGO_TARGET_TMPDIR")).join("swtpm/maker/ca/issuercert.pem")).unwrap()
}
