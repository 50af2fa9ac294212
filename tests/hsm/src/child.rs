//! Tests that run themselves again with a module's environment.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::Site;

/// Set in the child; its value is the test's name.
const CHILD: &str = "CHANCERY_HSM_CHILD";
const MODULE: &str = "CHANCERY_HSM_MODULE";
const URI: &str = "CHANCERY_HSM_URI";
const PIN_FILE: &str = "CHANCERY_HSM_PIN_FILE";

/// Whether the body of the test `name` (as `--exact` takes it) is to be run: true in the child, which has `site`'s
/// environment. In the parent the child is run to its end, and the test fails with it.
///
/// # Panics
/// When the child fails.
pub fn in_child(name: &str, site: &Site) -> bool {
    if env::var(CHILD).is_ok_and(|child| child == name) {
        return true;
    }
    let program = env::current_exe().expect("a running test has a program");
    let mut child = Command::new(program);
    child.args([name, "--exact", "--nocapture", "--include-ignored"]).stdin(Stdio::null());
    equip(&mut child, site).env(CHILD, name);
    let output = child.output().expect("the test's own program runs");
    let (told, cried) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} in a child: {}\n{told}\n{cried}", output.status);
    assert!(told.contains("1 passed"), "{name}: the child ran no such test\n{told}");
    false
}

/// Gives a command `site`'s environment, and [`given`] to find it by.
pub fn equip<'a>(command: &'a mut Command, site: &Site) -> &'a mut Command {
    command.env(MODULE, &site.module).env(URI, &site.uri).env(PIN_FILE, &site.pin_file);
    command.envs(site.env.iter().map(|(name, value)| (name, value)))
}

/// The site of this child; `None` in the parent.
pub fn site() -> Option<Site> {
    env::var(CHILD).ok()?;
    given()
}

/// The site that [`equip`] gave this process.
pub fn given() -> Option<Site> {
    Some(Site {
        module: PathBuf::from(env::var_os(MODULE)?),
        uri: env::var(URI).ok()?,
        pin_file: PathBuf::from(env::var_os(PIN_FILE)?),
        env: Vec::new(),
        keep: Vec::new(),
    })
}
