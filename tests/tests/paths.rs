//! Every file and folder that a page names is there.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// First parts of the paths that are ours.
const TOP: &[&str] =
    &["agent-sdk", "attestor", "ca", "docs", "fuzz", "migrations", "packaging", "proto", "scripts", "tests"];

#[test]
fn every_path_that_a_page_names_exists() {
    let mut lacking = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let shown = page.strip_prefix(root()).unwrap().display().to_string();
        for path in paths(&text).into_iter().filter(|path| !root().join(path).exists()) {
            lacking.push(format!("{shown}: {path}"));
        }
    }
    assert!(lacking.is_empty(), "\n{}", lacking.join("\n"));
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_file = !file.is_empty() && !file.contains("://");
            assert!(!is_file || page.parent().unwrap().join(file).exists(), "{}: {target}", page.display());
        }
    }
}

#[test]
fn every_decision_that_code_names_exists() {
    let decisions: Vec<String> = fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for top in ["agent-sdk", "ca", "attestor", "proto", "tests"] {
        for file in sources(&root().join(top)) {
            let text = fs::read_to_string(&file).unwrap();
            for rest in text.split(concat!("docs/", "decisions/")).skip(1) {
                let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let is_there = number.len() == 4 && decisions.iter().any(|d| d.starts_with(&number));
                assert!(is_there || rest.starts_with('`'), "{}: decision '{number}'", file.display());
            }
        }
    }
}

#[test]
fn every_test_that_the_page_of_sources_names_exists() {
    let tests: HashSet<String> = ["agent-sdk", "ca", "attestor", "tests"]
        .into_iter()
        .flat_map(|top| sources(&root().join(top)))
        .flat_map(|file| functions(&fs::read_to_string(file).unwrap()))
        .collect();
    let page = fs::read_to_string(root().join("docs/SOURCES.md")).unwrap();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|word| is_sentence(word)).collect();
    let lacking: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(named.len() > 60 && lacking.is_empty(), "{} named, lacking {lacking:#?}", named.len());
}

/// Names of functions, in the order of the text.
fn functions(text: &str) -> Vec<String> {
    let after = text.split("fn ").skip(1);
    after.filter_map(|rest| rest.split('(').next()).map(str::to_owned).collect()
}

/// Tests are named as sentences: nothing else on that page has four words joined.
fn is_sentence(word: &str) -> bool {
    word.matches('_').count() >= 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn the_reader_of_paths_sees_paths_only() {
    assert_eq!(paths("`ca/src/run.rs` and `cargo run`, `ca/src/<x>`, ca/src/y.rs, `id/`"), ["ca/src/run.rs"]);
}

/// Words in backticks that begin with one of our folders.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split("```").step_by(2).flat_map(|part| part.split('`').skip(1).step_by(2));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    quoted
        .filter(|word| word.chars().all(plain))
        .filter(|word| word.split_once('/').is_some_and(|(top, _)| TOP.contains(&top)))
        .collect()
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    assert!(pages.len() > 10);
    pages
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
