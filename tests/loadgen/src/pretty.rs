//! Lines as a table for people; JSON is for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Fields with a column, a row or no meaning of their own for people.
const SHOWN: [&str; 17] = [
    "run",
    "mode",
    "phase",
    "at",
    "seconds",
    "calls",
    "errors",
    "items",
    "calls_per_second",
    "items_per_second",
    "latency_us",
    "server_cpu_us_per_call",
    "server_cpu_us_per_item",
    "server",
    "server_cpu_share",
    "client_cpu",
    "interrupted",
];

/// The head of the table.
pub fn head() -> String {
    format!(
        "{:<10} {:<16} {:>8} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>8}",
        "phase", "what", "seconds", "count", "per s", "p50 us", "p99 us", "p99.9 us", "max us", "CPU us", "RSS MB"
    )
}

/// The rows of one line: one for each thing that was timed, then what else there is to tell.
pub fn rows(line: &Map<String, Value>) -> String {
    let mut rows = String::new();
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| line.get(name).and_then(Value::as_f64);
    let cpu = number("server_cpu_us_per_item").or(number("server_cpu_us_per_call"));
    let resident = servers(line).filter_map(|s| s["resident_bytes"].as_u64()).reduce(|a, b| a + b);
    let (cpu, resident) = (
        cpu.map_or(String::new(), |us| format!("{us:.1}")),
        resident.map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
    );
    let seconds = number("seconds").unwrap_or_default();
    for (name, shape) in line.get("latency_us").and_then(Value::as_object).into_iter().flatten() {
        let of = |key: &str| shape[key].as_f64().unwrap_or_default();
        let per_second = if seconds > 0.0 { of("count") / seconds } else { 0.0 };
        let _ = writeln!(
            rows,
            "{:<10} {name:<16} {seconds:>8.2} {:>9} {per_second:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {cpu:>9} {resident:>8}",
            text("phase"),
            of("count"),
            of("p50"),
            of("p99"),
            of("p999"),
            of("max"),
        );
    }
    let mut rest: Vec<String> = line
        .iter()
        .filter(|(name, value)| !SHOWN.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if let Some(errors) = line.get("errors").and_then(Value::as_object).filter(|errors| !errors.is_empty()) {
        rest.push(format!("FAILED {}", Value::Object(errors.clone())));
    }
    if line.get("interrupted") == Some(&Value::Bool(true)) {
        rest.push("interrupted".into());
    }
    if !rest.is_empty() {
        let _ = writeln!(rows, "{:<10} {}", text("phase"), rest.join(", "));
    }
    rows
}

fn servers(line: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    line.get("server").and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_becomes_a_row_for_each_thing_timed_and_one_for_the_rest() {
        let line = json!({
            "phase": "poll", "seconds": 2.0, "errors": {"Lost": 3}, "interrupted": false, "redials": 1,
            "latency_us": {"bundle": {"count": 4, "p50": 1.0}, "sync": {"count": 4, "p50": 2.0}},
            "server": [{"resident_bytes": 5_000_000}],
        });
        let rows = rows(line.as_object().unwrap());
        let lines: Vec<_> = rows.lines().collect();
        assert_eq!(lines.len(), 3, "{rows}");
        assert!(lines[0].contains("bundle") && lines[1].contains("sync") && lines[1].contains("5.0"), "{rows}");
        assert!(lines[2].contains("redials 1") && lines[2].contains("FAILED {\"Lost\":3}"), "{rows}");
    }
}
