//! Generated pages are what the code says: `make docs` rewrites them, this test compares.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use chancery_core::reason::Reason;
use serde::Deserialize;

/// `docs/conformance.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conformance {
    rows: Vec<Row>,
    why: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    section: u32,
    id: String,
    level: String,
    who: String,
}

#[test]
fn errors_page_is_the_table_of_reasons() {
    let mut page = String::from(
        "# Errors\n\nGenerated from `ca/core/src/reason.rs` by `make docs`. A refused peer learns only `denied`; the record, the\n\
         metrics and the CLI carry these codes.\n\n| Code | Meaning | What to do |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let _ = writeln!(page, "| `{}` | {} | {} |", reason.code(), reason.meaning(), reason.remedy());
    }
    compare("ERRORS.md", &page);
}

#[test]
fn conformance_page_names_a_test_or_a_reason_for_every_row() {
    let table = fs::read_to_string(root().join("docs/conformance.toml")).unwrap();
    let table: Conformance = toml::from_str(&table).unwrap();
    let tests = tests_by_id();
    let mut page = String::from(
        "# Conformance to the SPIFFE standards\n\nGenerated from `docs/conformance.toml` and the names of the tests by `make docs`. A row is met where a test\n\
         named after it passes.\n",
    );
    let (mut section, mut tested, mut bare) = (0, 0, Vec::new());
    for row in &table.rows {
        if row.section != section {
            section = row.section;
            let _ = writeln!(
                page,
                "\n## {}\n\n| Row | Level | Who | Test, or why not yet |\n|---|---|---|---|",
                title(section)
            );
        }
        let found = tests.get(&row.id);
        let said = match (found, table.why.get(&row.id)) {
            (Some(names), _) => names.join("<br>"),
            (None, Some(why)) => format!("no test: {why}"),
            (None, None) => String::new(),
        };
        tested += usize::from(found.is_some());
        if said.is_empty() {
            bare.push(row.id.clone());
        }
        let _ = writeln!(page, "| {} | {} | {} | {said} |", row.id, row.level, row.who);
    }
    let _ = writeln!(page, "\n{tested} of {} rows have a test.", table.rows.len());
    assert!(bare.is_empty(), "rows with neither test nor reason in docs/conformance.toml: {}", bare.join(" "));
    compare("CONFORMANCE.md", &page);
}

fn title(section: u32) -> &'static str {
    match section {
        1 => "SPIFFE ID and SVID core",
        2 => "X509-SVID",
        3 => "JWT-SVID",
        5 => "Trust domain, bundle, bundle map",
        6 => "Workload Endpoint",
        7 => "Workload API",
        11 => "Conflicts and gaps in the texts",
        _ => "Other",
    }
}

/// Row id -> "`name` (file)", for every `fn xx_nn_...` below a `#[test]` of the workspace.
fn tests_by_id() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ["agent-sdk", "ca", "attestor", "tests"].iter().map(|f| root().join(f)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                note_tests(&path, &mut found);
            }
        }
    }
    for names in found.values_mut() {
        names.sort();
    }
    found
}

fn note_tests(path: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    let text = fs::read_to_string(path).unwrap();
    let shown = path.strip_prefix(root()).unwrap().display().to_string();
    for line in text.lines() {
        let Some(name) = line.trim().trim_start_matches("async ").strip_prefix("fn ") else { continue };
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        for id in ids_of(&name) {
            found.entry(id).or_default().push(format!("`{name}` ({shown})"));
        }
    }
}

/// The rows a test's name begins with: `xs_29_xs_30_leaf_...` names two.
fn ids_of(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('_').collect();
    let mut ids = Vec::new();
    for pair in parts.chunks(2) {
        let [letters, digits] = pair else { break };
        let known = ["id", "xs", "js", "tb", "we", "wa", "cf", "sp"].contains(letters);
        if !known || digits.len() != 2 || !digits.chars().all(|c| c.is_ascii_digit()) {
            break;
        }
        ids.push(format!("{}-{digits}", letters.to_uppercase()));
    }
    ids
}

#[test]
fn a_test_name_may_begin_with_several_rows() {
    assert_eq!(ids_of("xs_29_xs_30_leaf_is_ca"), ["XS-29", "XS-30"]);
    assert!(ids_of("a_test_name").is_empty() && ids_of("id_is_kept").is_empty());
}

/// Compares a page with what the code says, or writes it when `UPDATE_DOCS` is set.
fn compare(name: &str, page: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
        return;
    }
    let old = fs::read_to_string(&path).unwrap_or_default();
    assert!(old == page, "docs/{name} is out of date: run `make docs`");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
