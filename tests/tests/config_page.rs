//! `docs/CONFIG.md` and the samples of `packaging/` against the real parsers: keys, defaults, metrics, samples.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use chancery_attestor::config::Config as Attestor;
use chancery_ca::config::Config as Ca;
use chancery_core::policy::PolicySet;
use chancery_daemon::config::parse;

/// No key has this name, so the parser answers with those it knows.
const UNHEARD_OF: &str = "unheard_of";
const CA: &str = "trust_domain = \"example.org\"\ndata_dir = \"/d\"\n";
const ATTESTOR: &str = "trust_domain = \"example.org\"\nca_address = \"a:1\"\ntrust_bundle = \"/b\"\ndata_dir = \"/d\"\n\
                        workload_socket = \"/w\"\nadmin_socket = \"/a\"\nnode_attestor = \"tpm\"\n";

#[test]
fn every_sample_parses() {
    for kind in ["ca", "attestor", "policy"] {
        let samples = samples(kind);
        assert!(!samples.is_empty(), "no sample of {kind}");
        for sample in samples {
            accepted(kind, &sample);
        }
    }
}

#[test]
fn packaged_files_parse() {
    for kind in ["ca", "attestor"] {
        accepted(kind, &fs::read_to_string(root().join(format!("packaging/{kind}.toml"))).unwrap());
    }
}

#[test]
fn every_key_of_the_ca_is_on_the_page_and_no_other() {
    let tables = [
        ("ttl", "[ttl]\n?"),
        ("keys", "[keys]\n?"),
        ("keys.pkcs11", "[keys.pkcs11]\n?"),
        ("upstream", "[upstream]\n?"),
        ("upstream.pkcs11", "[upstream.pkcs11]\n?"),
        ("tpm", "[tpm]\n?"),
        ("tpm.allow[]", "[[tpm.allow]]\n?"),
        ("pkcs11", "[pkcs11]\n?"),
        ("pkcs11.vendor[]", "[[pkcs11.vendor]]\n?"),
        ("limits", "[limits]\n?"),
        ("bundle", "[bundle]\n?"),
        ("crl", "[crl]\n?"),
        ("detectors", "[detectors]\n?"),
        ("log", "[log]\n?"),
        ("siem[]", "[[siem]]\n?"),
    ];
    let on_page = without_tables(keys_on_page("chancery-ca"), &tables);
    assert_eq!(on_page, known(CA, &tables, |text| parse::<Ca>(text).unwrap_err()));
}

#[test]
fn every_key_of_the_attestor_is_on_the_page_and_no_other() {
    let token = "[pkcs11.token]\nmodule = \"/m\"\nuri = \"pkcs11:token=x\"\n";
    let tables = [
        ("tpm", "[tpm]\n?".to_string()),
        ("unix", "[unix]\n?".into()),
        ("pkcs11", format!("[pkcs11]\n?\n{token}")),
        ("pkcs11.token", "[pkcs11.token]\n?".into()),
        ("pkcs11.vendor[]", format!("[pkcs11]\n{token}[[pkcs11.vendor]]\n?")),
    ];
    let tables = tables.each_ref().map(|(table, text)| (*table, text.as_str()));
    let on_page = without_tables(keys_on_page("chancery-attestor"), &tables);
    assert_eq!(on_page, known(ATTESTOR, &tables, |text| parse::<Attestor>(text).unwrap_err()));
}

#[test]
fn every_key_of_a_policy_is_on_the_page_and_no_other() {
    let tables = [
        ("tpm", "[tpm]\n?"),
        ("tpm.policy[]", "[[tpm.policy]]\n?"),
        ("tpm.policy[].match", "[[tpm.policy]]\n[tpm.policy.match]\n?"),
        ("tpm.policy[].log", "[[tpm.policy]]\n[tpm.policy.log]\n?"),
        ("tpm.policy[].state", "[[tpm.policy]]\n[tpm.policy.state]\n?"),
        ("tpm.policy[].firmware", "[[tpm.policy]]\n[tpm.policy.firmware]\n?"),
    ];
    let keys = known("", &tables, |text| PolicySet::from_toml(text).unwrap_err().to_string());
    assert_eq!(without_tables(keys_on_page("Policy file"), &tables), keys);
}

#[test]
fn defaults_on_the_page_are_those_in_force() {
    defaults("chancery-ca", CA, |text| parse::<Ca>(text).unwrap());
    defaults("chancery-attestor", ATTESTOR, |text| parse::<Attestor>(text).unwrap());
}

#[test]
fn every_series_is_on_the_page_and_no_other() {
    let sources = [
        ("ca/src/metrics.rs", "chancery_ca_", ".register"),
        ("attestor/src/metrics.rs", "chancery_attestor_", ".register"),
        ("attestor/src/enroll/metrics.rs", "", ".register"),
        ("attestor/src/api/outage.rs", "chancery_attestor_", ".encode_descriptor"),
    ];
    let registered: BTreeSet<String> =
        sources.iter().flat_map(|(file, prefix, call)| series(file, prefix, call)).collect();
    let shown: BTreeSet<String> = keys_on_page("Metrics").iter().map(|name| bare(name)).collect();
    assert!(registered.len() > 15, "{registered:?}");
    assert_eq!(shown, registered);
}

/// Names given to `call` (`register` and `register_with_unit`): a registry shows no series that was never counted.
fn series(file: &str, prefix: &str, call: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let calls = text.split(call).skip(1).filter_map(|rest| rest.split_once('(')?.1.trim_start().strip_prefix('"'));
    calls.filter_map(|rest| Some(bare(&format!("{prefix}{}", rest.split('"').next()?)))).collect()
}

/// Without what the library adds for kind and unit.
fn bare(name: &str) -> String {
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.strip_suffix("_seconds").unwrap_or(name).to_owned()
}

/// Judges a file as its daemon would at start.
fn accepted(kind: &str, text: &str) {
    let judged = match kind {
        "policy" => PolicySet::from_toml(text).map(drop).map_err(|e| e.to_string()),
        "attestor" => parse::<Attestor>(text).and_then(|config| config.check()),
        _ => ca(text),
    };
    assert_eq!(judged, Ok(()), "{kind}:\n{text}");
}

fn ca(text: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    Ca::load(file.path()).map(drop).map_err(|e| e.to_string())
}

/// Every key the parser knows, from what it says of one it does not know. `?` in a table stands for that key.
fn known(least: &str, tables: &[(&str, &str)], refuse: impl Fn(&str) -> String) -> BTreeSet<String> {
    let top = names(&refuse(&format!("{UNHEARD_OF} = 1\n{least}")));
    let inner = tables.iter().flat_map(|(place, table)| {
        let text = format!("{least}{}", table.replace('?', &format!("{UNHEARD_OF} = 1\n")));
        names(&refuse(&text)).into_iter().map(move |name| format!("{place}.{name}"))
    });
    without_tables(top.into_iter().chain(inner).collect(), tables)
}

/// A table needs no row of its own: its keys have theirs.
fn without_tables(mut keys: BTreeSet<String>, tables: &[(&str, &str)]) -> BTreeSet<String> {
    keys.retain(|key| !tables.iter().any(|(place, _)| place == key));
    keys
}

/// `unknown field `x`, expected one of `a`, `b`` -> a, b.
fn names(message: &str) -> Vec<String> {
    let (_, expected) = message.split_once("expected").unwrap_or_else(|| panic!("{message}"));
    assert!(message.contains(UNHEARD_OF), "{message}");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each default, written out, changes nothing.
fn defaults<T: Debug>(section: &str, least: &str, read: impl Fn(&str) -> T) {
    let plain = format!("{:?}", read(least));
    let mut compared = 0;
    for row in rows(section) {
        let [key, default, ..] = row.as_slice() else { panic!("{row:?}") };
        // Alone these are no whole table: it needs others of its keys.
        let tables: &[&str] =
            if section == "chancery-ca" { &["keys.pkcs11.", "upstream.pkcs11."] } else { &["pkcs11."] };
        let of_token = tables.iter().any(|table| key.starts_with(table));
        if key.contains("[]") || of_token {
            continue;
        }
        let Some(value) = default.strip_prefix('`').and_then(|d| d.strip_suffix('`')) else {
            assert!(["none", "required"].contains(&default.as_str()), "{row:?}");
            continue;
        };
        let text = match key.rsplit_once('.') {
            None => format!("{key} = {value}\n{least}"),
            Some((table, key)) => format!("{least}[{table}]\n{key} = {value}\n"),
        };
        // The parsed default and the written one may differ in form ("1d", 86400 s), not in what they print as.
        assert_eq!(format!("{:?}", read(&text)), plain, "{key}");
        compared += 1;
    }
    assert!(compared > 5, "{section}: {compared} defaults");
}

fn keys_on_page(section: &str) -> BTreeSet<String> {
    rows(section).into_iter().map(|mut row| row.swap_remove(0)).collect()
}

/// Rows of the section's tables that begin with a name in backticks; cells without them only in the first column.
fn rows(section: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = rest.split("\n## ").next().unwrap_or_default();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix('|'));
    rows.map(|row| {
        let (key, rest) = row.split_once('`').unwrap();
        let cells = rest.split('|').skip(1).map(|cell| cell.trim().to_owned());
        std::iter::once(key.to_owned()).chain(cells).collect()
    })
    .collect()
}

/// Fenced samples marked `toml <kind>`.
fn samples(kind: &str) -> Vec<String> {
    let page = page();
    let fence = format!("```toml {kind}\n");
    let fences = page.split(&fence).skip(1);
    fences.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/CONFIG.md")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
