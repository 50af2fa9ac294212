//! One line for each fault: how it went, or why it could not be done here.

use std::{fs::File, io::Write};

/// Times each fault is done.
pub fn rounds() -> usize {
    let told = std::env::var("CHANCERY_FAULT_ROUNDS").ok();
    told.map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("CHANCERY_FAULT_ROUNDS={text}: not a number")))
}

/// The fault was done, and everything held.
pub fn ran(fault: &str, figures: &str) {
    tell(&format!("ran      {fault}: {} x, {figures}", rounds()));
}

/// The fault cannot be done here.
pub fn skipped(fault: &str, why: &str) {
    tell(&format!("SKIPPED  {fault}: {why}"));
}

fn tell(line: &str) {
    println!("{line}");
    if let Some(path) = std::env::var_os("CHANCERY_FAULT_REPORT") {
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("the report can be written");
    }
}

/// Whether a program is installed; `fault` is reported as skipped where it is not.
pub fn installed(fault: &str, program: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
    });
    if !found {
        skipped(fault, &format!("{program} is not installed (package {package})"));
    }
    found
}

/// Whether we are root; `fault` is reported as skipped where we are not.
pub fn root(fault: &str, what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(fault, &format!("only root may {what}"));
    }
    root
}
