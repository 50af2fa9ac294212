//! An event as others know such things: OCSF's names beside the event itself.
//!
//! OCSF 1.3 has classes for what a CA does and none of its own for most of our kinds; the mapping names the nearest class, and
//! the event is whole under `unmapped`. Source: schema.ocsf.io/1.3.0.

use serde_json::{Value, json};

use super::uid;
use crate::store::StoredEvent;

/// OCSF's version.
const OCSF: &str = "1.3.0";
/// `activity_id` of what is none of a class's own.
const OTHER: u64 = 99;

/// Whose record it is, and who sends it.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) domain: String,
    pub(super) server: String,
}

/// A class of OCSF.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Class {
    pub(super) category: &'static str,
    pub(super) category_uid: u64,
    pub(super) name: &'static str,
    pub(super) uid: u64,
}

const fn iam(name: &'static str, uid: u64) -> Class {
    Class { category: "Identity & Access Management", category_uid: 3, name, uid }
}

const ACCOUNT_CHANGE: Class = iam("Account Change", 3001);
const AUTHENTICATION: Class = iam("Authentication", 3002);
const AUTHORIZE_SESSION: Class = iam("Authorize Session", 3003);
const ENTITY_MANAGEMENT: Class = iam("Entity Management", 3004);
const LIFECYCLE: Class =
    Class { category: "Application Activity", category_uid: 6, name: "Application Lifecycle", uid: 6002 };
const FINDING: Class = Class { category: "Findings", category_uid: 2, name: "Detection Finding", uid: 2004 };

/// The nearest class of a kind.
pub(super) fn class(kind: &str) -> Class {
    let (group, act) = kind.split_once('.').unwrap_or((kind, ""));
    match (group, act) {
        ("log", "disputed") | ("hold", "proposed") | ("proposal", _) => FINDING,
        ("node", "attested" | "failed" | "refused" | "renewed") | ("strangers", _) => AUTHENTICATION,
        ("instance", "begun" | "renewed") | ("svid" | "jwt" | "ca", "issued" | "minted") => AUTHORIZE_SESSION,
        (_, "banned" | "closed" | "ended" | "evicted" | "held" | "released" | "reopened" | "revoked" | "tainted") => {
            ACCOUNT_CHANGE
        }
        ("server" | "log" | "epoch" | "records" | "upstream", _) => LIFECYCLE,
        _ => ENTITY_MANAGEMENT,
    }
}

/// OCSF's severity: 1 informational, 3 medium, 5 critical.
pub(super) fn severity(kind: &str) -> u64 {
    match kind {
        "log.disputed" => 5,
        _ if ["failed", "proposed", "refused", "revoked", "banned", "held", "tainted", "lost"]
            .iter()
            .any(|act| kind.ends_with(act)) =>
        {
            3
        }
        _ => 1,
    }
}

/// An event that is to be sent.
pub(super) struct Record {
    pub(super) kind: String,
    pub(super) at: i64,
    /// One line of JSON.
    pub(super) line: String,
    pub(super) uid: String,
}

impl Form {
    /// Writes an event; one that is no JSON, which no server writes, goes as text.
    pub(super) fn write(&self, event: &StoredEvent) -> Record {
        let text = || Value::from(String::from_utf8_lossy(&event.bytes).into_owned());
        let json: Value = serde_json::from_slice(&event.bytes).unwrap_or_else(|_| text());
        let of = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, subject) = (of("kind"), of("subject"));
        let at = json.get("at").and_then(Value::as_i64).unwrap_or_default();
        let (class, uid) = (class(&kind), uid(&self.domain, event));
        let line = json!({
            "activity_id": OTHER,
            "activity_name": kind,
            "category_name": class.category,
            "category_uid": class.category_uid,
            "class_name": class.name,
            "class_uid": class.uid,
            "message": format!("{kind} {subject}"),
            "metadata": {
                "log_name": self.domain,
                "product": { "name": "Chancery", "vendor_name": "Chancery", "version": env!("CARGO_PKG_VERSION") },
                "sequence": event.number,
                "uid": uid,
                "version": OCSF,
            },
            "severity_id": severity(&kind),
            "time": at * 1000,
            "type_uid": class.uid * 100 + OTHER,
            "unmapped": { "event": json, "leaf_sha256": hex::encode(event.hash) },
        });
        Record { kind, at, line: line.to_string(), uid }
    }
}
