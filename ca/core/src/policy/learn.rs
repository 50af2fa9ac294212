//! A candidate policy from evidence that was accepted; an operator reads it before using it.

use std::fmt::Write;

use super::Facts;

/// Writes TOML that allows exactly what `facts` show: log rules where the log proves them, golden values
/// for every other quoted PCR. `name` must be a policy name, `model` may come from the certificate.
#[must_use]
pub fn learn(name: &str, model: Option<&str>, facts: &Facts<'_>) -> String {
    let pcrs: Vec<u32> = facts.boot.pcrs.keys().copied().filter(|pcr| !matches!(pcr, 10 | 16 | 23)).collect();
    let secure_boot =
        facts.log.and_then(|log| log.secure_boot.as_ref().ok()).filter(|state| state.on && pcrs.contains(&7));
    let apps =
        facts.log.and_then(|log| log.boot_apps.as_ref().ok()).filter(|apps| !apps.is_empty() && pcrs.contains(&4));
    let mut out = String::from("# Learned from accepted evidence: read it before you use it.\n[[tpm.policy]]\n");
    // Writing to a String does not fail, so the results are dropped.
    let _ = writeln!(out, "name = {}", quoted(name));
    let mut conditions = Vec::new();
    conditions.extend(facts.manufacturer.map(|m| format!("manufacturer = {}", quoted(&m.to_string()))));
    conditions.extend(model.map(|m| format!("model = {}", quoted(m))));
    if !conditions.is_empty() {
        let _ = writeln!(out, "match = {{ {} }}", conditions.join(", "));
    }
    let _ = writeln!(out, "bank = \"sha256\"\npcrs = {pcrs:?}\n\n[tpm.policy.golden]");
    for (pcr, value) in facts.boot.pcrs.iter().filter(|(pcr, _)| pcrs.contains(pcr)) {
        if (*pcr == 7 && secure_boot.is_some()) || (*pcr == 4 && apps.is_some()) {
            continue;
        }
        let _ = writeln!(out, "\"{pcr}\" = [\"{}\"]", hex::encode(value));
    }
    if secure_boot.is_none() && apps.is_none() {
        return out;
    }
    let _ = writeln!(out, "\n[tpm.policy.log]\nrequired = true");
    if let Some(state) = secure_boot {
        let _ = writeln!(out, "secure_boot = \"on\"");
        let proven: Option<Vec<[u8; 32]>> = state.authorities.iter().copied().collect();
        if let Some(authorities) = proven {
            let _ = writeln!(out, "db_certs_sha256 = [{}]", list(&authorities));
        }
        if state.dma_protection_off {
            let _ = writeln!(out, "allow_dma_protection_off = true");
        }
    }
    if let Some(apps) = apps {
        let _ = writeln!(out, "boot_apps_sha256 = [{}]", list(apps));
    }
    out
}

fn list(digests: &[[u8; 32]]) -> String {
    let texts: Vec<String> = digests.iter().map(|digest| format!("\"{}\"", hex::encode(digest))).collect();
    texts.join(", ")
}

/// A TOML basic string; quotes, backslashes and control characters are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
