use std::{fs, path::Path};

use chancery_hsm::Site;

use super::program::Program;

/// Makes a SoftHSM2 token in `folder`.
pub(super) fn make(folder: &Path, label: &str) -> Result<Site, String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    chancery_hsm::softhsm2_in(folder, label)
}

/// Gives `program` what the token's module needs, and answers the lines of a token's table.
pub(super) fn table(site: &Site, program: &mut Program) -> String {
    for (name, value) in &site.env {
        program.set(name, value);
    }
    format!("module = {:?}\nuri = {:?}\npin_file = {:?}\n", site.module, site.uri, site.pin_file)
}
