//! kryoptic: PKCS#11 3.2 in Rust, built by cargo from `tests/kryoptic`.

use std::{fs, path::PathBuf, process::Command};

use crate::{PIN, SO_PIN, Site, Skip, command, folder};

/// Names the built library; `scripts/test-hsm` sets it.
const LIBRARY: &str = "CHANCERY_KRYOPTIC";

/// A new token labelled `label`.
///
/// # Errors
/// Why kryoptic cannot be used here.
pub fn kryoptic(label: &str) -> Result<Site, Skip> {
    let module = std::env::var_os(LIBRARY).map(PathBuf::from).filter(|path| path.exists());
    let module = module.ok_or_else(|| format!("{LIBRARY} names no library: run `make test-hsm`"))?;
    let folder = folder()?;
    let conf = folder.path().join("kryoptic.conf");
    let database = folder.path().join("token.sql");
    let text = format!("[[slots]]\nslot = 42\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display());
    fs::write(&conf, text).map_err(|e| e.to_string())?;
    let site = Site::new(folder, module, format!("pkcs11:token={label}"))?
        .with_env("KRYOPTIC_CONF", conf.display().to_string());
    let tool = |arguments: &[&str]| {
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(&site.module).args(["--slot", "42"]).args(arguments).env("KRYOPTIC_CONF", &conf);
        command::run(&mut tool).map_err(|e| format!("{e} (install opensc)"))
    };
    tool(&["--init-token", "--label", label, "--so-pin", SO_PIN])?;
    tool(&["--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--pin", PIN])?;
    Ok(site)
}
