//! SoftHSM2: software, from the distribution; the default.

use std::{fs, path::Path, process::Command};

use crate::{Keep, PIN, SO_PIN, Site, Skip, command, first_file, folder};

/// A new token labelled `label`.
///
/// # Errors
/// Why SoftHSM2 cannot be used here.
pub fn softhsm2(label: &str) -> Result<Site, Skip> {
    let folder = folder()?;
    let mut site = softhsm2_in(folder.path(), label)?;
    site.keep.push(Keep::Folder(folder));
    Ok(site)
}

/// [`softhsm2`] in a folder that is left in place.
///
/// # Errors
/// As there.
pub fn softhsm2_in(folder: &Path, label: &str) -> Result<Site, Skip> {
    let conf = softhsm2_token(folder, label)?;
    let module = first_file(
        &["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"],
        "softhsm2",
    )?;
    let uri = format!("pkcs11:token={label}");
    Ok(Site::at(folder, module, uri)?.with_env("SOFTHSM2_CONF", conf))
}

/// Makes a token in `folder`, beside those that are there; the value of `SOFTHSM2_CONF`.
///
/// # Errors
/// What `softhsm2-util` said.
pub fn softhsm2_token(folder: &Path, label: &str) -> Result<String, Skip> {
    let (conf, tokens) = (folder.join("softhsm2.conf"), folder.join("tokens"));
    fs::create_dir_all(&tokens).map_err(|e| e.to_string())?;
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    fs::write(&conf, text).map_err(|e| e.to_string())?;
    let conf = conf.display().to_string();
    let mut init = Command::new("softhsm2-util");
    init.args(["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]);
    command::run(init.env("SOFTHSM2_CONF", &conf)).map_err(|e| format!("{e} (install softhsm2)"))?;
    Ok(conf)
}
