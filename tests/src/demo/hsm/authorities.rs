use serde::Deserialize;

use crate::playground::Playground;

/// An authority and its key, as `chancery-ca authority show` tells them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Row {
    /// Key ID, hex.
    pub authority_id: String,
    /// `x509` or `jwt`.
    pub kind: String,
    /// `active` and so on.
    pub state: String,
    /// What the key is labelled in the token.
    pub key_label: String,
    /// `generated` once it is there.
    pub key_state: String,
    /// For example `ec-p256`.
    pub key_type: String,
    /// Hash of the public half.
    pub spki_sha256: String,
}

#[derive(Deserialize)]
struct Shown {
    authorities: Vec<Row>,
    orphans: Vec<String>,
}

/// Every authority of the CA.
///
/// # Errors
/// What the command printed; keys in the token that nobody knows.
pub fn all(playground: &Playground) -> Result<Vec<Row>, String> {
    let text = playground.ca(&["authority", "show", "--output", "json"])?;
    let shown: Shown = serde_json::from_str(&text).map_err(|e| format!("authority show: {e}"))?;
    match shown.orphans.as_slice() {
        [] => Ok(shown.authorities),
        orphans => Err(format!("keys in the HSM without a row in the journal: {orphans:?}")),
    }
}

/// The active authority of a kind.
///
/// # Errors
/// As [`all`]; there is none.
pub fn active(playground: &Playground, kind: &str) -> Result<Row, String> {
    let found = all(playground)?.into_iter().find(|row| row.kind == kind && row.state == "active");
    found.ok_or_else(|| format!("no {kind} authority is active"))
}
