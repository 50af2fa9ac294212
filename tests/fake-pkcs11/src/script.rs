//! The rules, as files.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is done instead of forwarding.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Absent(u64),
    After(u64),
    Code(u64),
    First,
    Flags(u64),
    Flip,
    Hang,
    Lie(u64),
}

/// One call at a time looks at its rule and takes one of its times.
static READING: Mutex<()> = Mutex::new(());

/// The rule for this call; counted. A call told to hang returns when its rule is gone.
pub fn rule(function: &str) -> Option<Action> {
    let action = take(function);
    if matches!(action, Some(Action::Hang)) {
        let path = file(function)?;
        while path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    action
}

/// The rule for the next call, not counted.
pub fn peek(function: &str) -> Option<Action> {
    parse(&fs::read_to_string(file(function)?).ok()?).map(|(action, _)| action)
}

fn file(function: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("CHANCERY_FAKE_SCRIPT")?).join(function))
}

fn take(function: &str) -> Option<Action> {
    let path = file(function)?;
    let _one = READING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(mut calls) = OpenOptions::new().create(true).append(true).open(path.with_extension("calls")) {
        let _ = calls.write_all(b".");
    }
    let text = fs::read_to_string(&path).ok()?;
    let (action, times) = parse(&text)?;
    match times {
        // A hanging call ends when the test removes its rule.
        _ if matches!(action, Action::Hang) => {}
        None => {}
        Some(..=1) => drop(fs::remove_file(&path)),
        Some(more) => {
            let mut words: Vec<&str> = text.split_whitespace().collect();
            let left = (more - 1).to_string();
            words[2] = &left;
            drop(fs::write(&path, words.join(" ")));
        }
    }
    Some(action)
}

/// `ACTION VALUE TIMES`; `None` for `*`.
fn parse(text: &str) -> Option<(Action, Option<u64>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [action, value, times] = words.as_slice() else { return None };
    let value = u64::from_str_radix(value.trim_start_matches("0x"), 16).ok()?;
    let action = match *action {
        "absent" => Action::Absent(value),
        "after" => Action::After(value),
        "code" => Action::Code(value),
        "first" => Action::First,
        "flags" => Action::Flags(value),
        "flip" => Action::Flip,
        "hang" => Action::Hang,
        "lie" => Action::Lie(value),
        _ => return None,
    };
    Some((action, times.parse().ok()))
}
