use std::{fs, path::Path};

use super::program::Program;

/// Where Debian and Ubuntu have SoftHSM2.
const SOFTHSM2: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Makes a SoftHSM2 token in `folder`, gives `program` what it needs for it, and answers the lines of a token's table.
pub(super) fn make(folder: &Path, label: &str, program: &mut Program) -> Result<String, String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    program.set("SOFTHSM2_CONF", &chancery_hsm::softhsm2_token(folder, label)?);
    let pin = folder.join("pin");
    chancery_daemon::file::write_atomic(&pin, chancery_hsm::PIN.as_bytes(), 0o600).map_err(|e| e.to_string())?;
    Ok(format!("module = {SOFTHSM2:?}\nuri = \"pkcs11:token={label}\"\npin_file = {pin:?}\n"))
}
