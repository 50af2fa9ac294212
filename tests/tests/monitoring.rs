//! The dashboard and the alert rules of `packaging/monitoring` name series and labels that exist.

use std::{collections::BTreeSet, fs, path::Path};

/// Series as `docs/CONFIG.md` has them; another test holds that page against the programs.
fn on_the_page() -> BTreeSet<String> {
    let page = read("docs/CONFIG.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `chancery_"));
    rows.map(|row| format!("chancery_{}", row.split('`').next().unwrap())).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))
        .unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Names of series in a text; the suffixes of a histogram's parts are taken off.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !word(c)).filter(|name| name.starts_with("chancery_"));
    words.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

#[test]
fn dashboard_and_alerts_name_series_that_exist() {
    let known = on_the_page();
    assert!(known.contains("chancery_ca_ready"), "{known:?}");
    for (file, least) in [("packaging/monitoring/grafana.json", 18), ("packaging/monitoring/alerts.yml", 10)] {
        let named = named(&read(file));
        assert!(named.len() >= least, "{file} names {} series", named.len());
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names series that nothing exports: {unknown:?}");
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_for_something_and_has_a_place_of_its_own() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("packaging/monitoring/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
        let place = &panel["gridPos"];
        assert!(places.insert((place["x"].as_u64(), place["y"].as_u64())), "{} lies on another", panel["title"]);
    }
}
