//! The one-way street of `docs/ARCHITECTURE.md`, read from the sources: fails on a breach.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder, what its code may never name, and the paths below it that are exempt (with the reason beside them).
struct Rule {
    folder: &'static str,
    never: &'static [&'static str],
    exempt: &'static [&'static str],
}

const IO: &[&str] =
    &["tokio", "tonic", "sqlx", "std::fs", "std::net", "std::env", "SystemTime::now", "Instant::now", "ring::rand"];

const RULES: &[Rule] = &[
    Rule { folder: "proto/src", never: &["chancery_"], exempt: &[] },
    // Vocabulary: no I/O and no clock.
    Rule { folder: "agent-sdk/src/id", never: IO, exempt: &[] },
    Rule { folder: "agent-sdk/src/x509", never: IO, exempt: &[] },
    Rule { folder: "agent-sdk/src/jwt", never: IO, exempt: &[] },
    Rule { folder: "agent-sdk/src/bundle", never: IO, exempt: &[] },
    Rule {
        folder: "agent-sdk/src",
        never: &["chancery_ca", "chancery_attestor", "chancery_core", "chancery_daemon"],
        exempt: &[],
    },
    // The core decides; it does nothing.
    Rule { folder: "ca/core/src", never: IO, exempt: &[] },
    Rule {
        folder: "ca/core/src",
        never: &["chancery_proto", "chancery_daemon", "chancery_ca", "aws_lc_rs"],
        exempt: &[],
    },
    Rule {
        folder: "ca/daemon/src",
        never: &["chancery_ca", "chancery_attestor", "chancery_core", "chancery_proto", "sqlx"],
        exempt: &[],
    },
    Rule { folder: "ca/src", never: &["chancery_attestor", "tss_esapi"], exempt: &[] },
    // Stands alone: files and a public key are all it has.
    Rule {
        folder: "ca/verify/src",
        never: &["chancery_ca", "chancery_daemon", "chancery_proto", "tokio", "tonic", "sqlx", "std::net"],
        exempt: &[],
    },
    // Doors name neither the store nor the keys.
    Rule { folder: "ca/src/grpc", never: &["crate::store", "crate::keys", "sqlx"], exempt: &[] },
    // The store decides nothing and knows no door.
    Rule { folder: "ca/src/store", never: &["crate::grpc", "tonic", "chancery_proto", "rcgen"], exempt: &[] },
    Rule { folder: "ca/src/keys", never: &["crate::grpc", "crate::store", "tonic", "chancery_proto"], exempt: &[] },
    Rule { folder: "ca/src/authority", never: &["crate::grpc", "tonic", "chancery_proto", "sqlx"], exempt: &[] },
    Rule { folder: "attestor/src", never: &["chancery_ca", "sqlx"], exempt: &[] },
    Rule { folder: "attestor/src/plan", never: IO, exempt: &[] },
    Rule { folder: "attestor/src/tpm", never: &["tonic", "chancery_proto", "sqlx"], exempt: &[] },
    // A stranger to every server: it may be pointed at any of them.
    Rule {
        folder: "tests/loadgen/src",
        never: &["chancery_ca", "chancery_attestor", "chancery_core", "chancery_daemon", "sqlx"],
        exempt: &[],
    },
];

#[test]
fn no_folder_names_what_it_may_not() {
    let mut breaches = Vec::new();
    for rule in RULES {
        for file in sources(&root().join(rule.folder)) {
            let shown = file.strip_prefix(root()).unwrap().display().to_string();
            if !rule.exempt.iter().any(|e| shown.starts_with(e)) {
                breaches.extend(breaches_in(&file, &shown, rule.never));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn every_rule_looks_at_code_that_exists() {
    for rule in RULES {
        assert!(!sources(&root().join(rule.folder)).is_empty(), "{}", rule.folder);
    }
}

#[test]
fn the_ca_links_no_tpm_library_and_tonic_does_no_tls() {
    let ca = fs::read_to_string(root().join("ca/Cargo.toml")).unwrap();
    assert!(!ca.contains("tss-esapi") && !ca.contains("chancery-attestor"));
    let all = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let tonic = all.lines().find(|l| l.starts_with("tonic = ")).unwrap();
    assert!(!tonic.contains("tls"), "{tonic}");
}

/// Not by name alone: nothing it depends on brings a server in either.
#[test]
fn the_load_generator_links_no_server_code() {
    #[derive(serde::Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        #[serde(default)]
        dependencies: Vec<String>,
    }
    let lock: Lock = toml::from_str(&fs::read_to_string(root().join("Cargo.lock")).unwrap()).unwrap();
    let mut linked = vec!["chancery-loadgen".to_owned()];
    let mut at = 0;
    while at < linked.len() {
        let found = lock.package.iter().filter(|p| p.name == linked[at]).flat_map(|p| &p.dependencies);
        // `name`, or `name version` where there are several.
        let names: Vec<String> = found.filter_map(|d| d.split(' ').next()).map(str::to_owned).collect();
        for name in names {
            if !linked.contains(&name) {
                linked.push(name);
            }
        }
        at += 1;
    }
    assert!(linked.iter().any(|name| name == "chancery-sdk"), "the walk finds what is there");
    for server in
        ["chancery-ca", "chancery-core", "chancery-attestor", "chancery-daemon", "sqlx", "tss-esapi", "cryptoki"]
    {
        assert!(!linked.iter().any(|name| name == server), "loadgen links {server}");
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    let all = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(all.contains("unsafe_code = \"forbid\""));
    for member in [
        "proto",
        "agent-sdk",
        "ca/core",
        "ca/daemon",
        "ca/verify",
        "ca",
        "attestor",
        "tests",
        "tests/hsm",
        "tests/loadgen",
    ] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(root().join("migrations").join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert!(!names("sqlite").is_empty());
    assert_eq!(names("sqlite"), names("postgres"));
}

/// Lines of product code that name something forbidden; comments and the file's test module are not looked at.
fn breaches_in(file: &Path, shown: &str, never: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in product.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in never {
            if names(code, word) {
                found.push(format!("{shown}:{}: names {word}", number + 1));
            }
        }
    }
    found
}

/// Whether `code` names the path `word` and not merely a longer word that holds it.
fn names(code: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(joins) && (word.ends_with('_') || !after.is_some_and(joins))
    })
}

#[test]
fn the_reader_of_names_sees_whole_words_only() {
    assert!(names("use tonic::Status;", "tonic") && names("use chancery_ca::x;", "chancery_ca"));
    assert!(!names("use chancery_ca_x::y;", "chancery_ca") && !names("atonic", "tonic"));
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
