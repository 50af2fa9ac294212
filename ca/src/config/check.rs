//! Rules between keys, and ranges.

use chancery_core::{detect::MAX_DENIALS, instance::MAX_HOLD_SECS};
use chancery_daemon::config::Span;

use super::{Config, Enrol, KeyStoreKind, Siem, SiemKind, UpstreamKind};
use crate::store::Require;

/// Shortest lifetime of anything issued.
const MIN_TTL: Span = Span::secs(10);
/// Shortest lifetime of a node's SVID: renewed at about half of it, it must leave room for one of [`MIN_TTL`].
const MIN_NODE_TTL: Span = Span::secs(20);
/// Longest lifetime of an SVID.
const MAX_SVID_TTL: Span = Span::secs(7 * 86_400);
/// Longest lifetime of an authority.
const MAX_CA_TTL: Span = Span::secs(10 * 365 * 86_400);
/// Longest server id; it is in every event.
const MAX_SERVER_ID: usize = 64;

/// Longest name of an output; it names a file.
const MAX_SIEM_NAME: usize = 32;
/// A shorter one would end before slow readers have it; each is an event, and goes to every node.
const MIN_CRL: Span = Span::secs(30);
/// A revoked certificate is named once after its end; the row goes a day after.
const MAX_CRL: Span = Span::secs(86_400);

/// One denial happens.
const MIN_DENIALS: u32 = 2;
/// What is spread over more is no burst.
const MAX_DENIALS_WINDOW: Span = Span::secs(3600);
const SECOND: Span = Span::secs(1);

/// Each checkpoint costs a few files.
const MIN_LOG_INTERVAL: Span = Span::millis(100);
/// What lies behind the last checkpoint can be altered without a trace.
const MAX_LOG_INTERVAL: Span = Span::secs(3600);
/// Whoever looks into what happened needs a day at least.
const MIN_EVIDENCE: Span = Span::secs(86_400);

/// The first fault, naming its key; `None` when there is none.
pub(super) fn problem(config: &Config) -> Option<String> {
    ttl(config)
        .or_else(|| delegated(config))
        .or_else(|| upstream(config))
        .or_else(|| limits(config))
        .or_else(|| keys(config))
        .or_else(|| log(config))
        .or_else(|| siem(config))
        .or_else(|| crl(config))
        .or_else(|| detectors(config))
        .or_else(|| rest(config))
}

fn crl(config: &Config) -> Option<String> {
    let life = config.crl.lifetime;
    (life < MIN_CRL || life > MAX_CRL).then(|| format!("crl.lifetime: {life} is outside {MIN_CRL} to {MAX_CRL}"))
}

fn detectors(config: &Config) -> Option<String> {
    let d = &config.detectors;
    if !(MIN_DENIALS..=MAX_DENIALS).contains(&d.denials_count) {
        return Some(format!("detectors.denials_count: {} is outside {MIN_DENIALS} to {MAX_DENIALS}", d.denials_count));
    }
    let longest = Span::secs(MAX_HOLD_SECS.unsigned_abs());
    let spans = [
        ("detectors.denials_window", d.denials_window, MAX_DENIALS_WINDOW),
        ("detectors.hold_for", d.hold_for, longest),
    ];
    let outside = spans.into_iter().find(|(_, span, most)| *span < SECOND || span > most);
    outside.map(|(key, span, most)| format!("{key}: {span} is outside {SECOND} to {most}"))
}

fn log(config: &Config) -> Option<String> {
    let spans = [("log.interval", config.log.interval), ("log.witness_interval", config.log.witness_interval)];
    let outside = spans.into_iter().find(|(_, span)| !(MIN_LOG_INTERVAL..=MAX_LOG_INTERVAL).contains(span));
    let kept = config.log.evidence_kept;
    outside
        .map(|(key, span)| format!("{key}: {span} is outside {MIN_LOG_INTERVAL} to {MAX_LOG_INTERVAL}"))
        .or_else(|| (kept < MIN_EVIDENCE).then(|| format!("log.evidence_kept: {kept} is less than {MIN_EVIDENCE}")))
}

fn siem(config: &Config) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for (at, one) in config.siem.iter().enumerate() {
        if one.name.is_empty() || one.name.len() > MAX_SIEM_NAME || !one.name.bytes().all(plain) {
            return Some(format!("siem[].name: {:?} is not 1 to {MAX_SIEM_NAME} of a to z, 0 to 9 and -", one.name));
        }
        if config.siem.iter().take(at).any(|before| before.name == one.name) {
            return Some(format!("siem[].name: {:?} is there twice", one.name));
        }
        if let Some(missing) = siem_lacks(one) {
            return Some(format!("siem[].{missing} (of {:?})", one.name));
        }
    }
    None
}

fn siem_lacks(one: &Siem) -> Option<&'static str> {
    let url = one.url.as_deref().unwrap_or_default();
    let is_local = ["http://127.0.0.1", "http://[::1]", "http://localhost"]
        .iter()
        .any(|local| url.strip_prefix(local).is_some_and(|rest| rest.starts_with([':', '/'])));
    match one.kind {
        SiemKind::Jsonl if one.path.is_none() => Some("path: kind = \"jsonl\" needs it"),
        SiemKind::Syslog if one.address.is_none() => Some("address: kind = \"syslog\" needs it, as host:port"),
        SiemKind::Otlp if !is_local && !url.starts_with("https://") => {
            Some("url: kind = \"otlp\" needs one with https, or http on this machine")
        }
        SiemKind::Jsonl => None,
        SiemKind::Syslog | SiemKind::Otlp if one.ca_file.is_none() && !is_local => Some("ca_file: TLS needs it"),
        _ if one.certificate_file.is_some() != one.key_file.is_some() => {
            Some("certificate_file: it goes with key_file")
        }
        SiemKind::Syslog | SiemKind::Otlp => None,
    }
}

fn ttl(config: &Config) -> Option<String> {
    let t = &config.ttl;
    let svids = [
        ("ttl.x509_svid", t.x509_svid),
        ("ttl.instance_svid", t.instance_svid),
        ("ttl.node_svid", t.node_svid),
        ("ttl.jwt_svid", t.jwt_svid),
    ];
    for (key, span) in svids {
        if span < MIN_TTL || span > MAX_SVID_TTL {
            return Some(format!("{key}: {span} is outside {MIN_TTL} to {MAX_SVID_TTL}"));
        }
    }
    let caps = [
        ("ttl.x509_svid", t.x509_svid, t.x509_svid_max),
        ("ttl.instance_svid", t.instance_svid, t.instance_svid_max),
        ("ttl.jwt_svid", t.jwt_svid, t.jwt_svid_max),
    ];
    for (key, usual, cap) in caps {
        if cap < usual || cap > MAX_SVID_TTL {
            return Some(format!("{key}_max: {cap} is outside {key} ({usual}) to {MAX_SVID_TTL}"));
        }
    }
    if t.node_svid < MIN_NODE_TTL {
        return Some(format!(
            "ttl.node_svid: {} is less than {MIN_NODE_TTL}: at its renewal it would leave less than the {MIN_TTL} that anything issued through the node must live",
            t.node_svid
        ));
    }
    if t.ca < MIN_TTL || t.ca > MAX_CA_TTL {
        return Some(format!("ttl.ca: {} is outside {MIN_TTL} to {MAX_CA_TTL}", t.ca));
    }
    // An authority is replaced at 5/6 of its life: what it signs last has one sixth left, and
    // no leaf outlives its issuer.
    for (key, span) in svids {
        if t.ca.0 < span.0 * 6 {
            return Some(format!("ttl.ca: {} is less than six times {key} ({span})", t.ca));
        }
    }
    (t.publish_delay.0 * 3 > t.ca.0)
        .then(|| format!("ttl.publish_delay: {} is more than a third of ttl.ca ({})", t.publish_delay, t.ca))
}

/// The next one follows at half of its life: what the old one signed last must fit into the other half.
fn delegated(config: &Config) -> Option<String> {
    let life = config.keys.delegated_issuer?;
    let t = &config.ttl;
    let longest = t.x509_svid.max(t.instance_svid).max(t.node_svid);
    if life > t.ca {
        return Some(format!("keys.delegated_issuer: {life} is longer than ttl.ca ({})", t.ca));
    }
    (life.0 < longest.0 * 2)
        .then(|| format!("keys.delegated_issuer: {life} is less than twice the longest X509-SVID ({longest})"))
}

/// Each kind of upstream has its keys, and no other's.
fn upstream(config: &Config) -> Option<String> {
    let u = &config.upstream;
    let files = matches!(u.kind, UpstreamKind::Disk | UpstreamKind::Pkcs11);
    let nested = u.kind == UpstreamKind::Nested;
    let needs = [
        ("certificate", files, u.certificate.is_some(), "needs the CA's certificate, a PEM file"),
        ("key", u.kind == UpstreamKind::Disk, u.key.is_some(), "needs the CA's key, a PEM file of mode 0600"),
        ("pkcs11", u.kind == UpstreamKind::Pkcs11, u.pkcs11.is_some(), "needs this table with module, uri and label"),
        ("server", nested, u.server.is_some(), "needs the server above, as host:port"),
        (
            "workload_socket",
            nested,
            u.workload_socket.is_some(),
            "needs the socket of a Workload API of the server above",
        ),
    ];
    let kind = u.kind.name();
    let given = needs.iter().find(|(_, wanted, given, _)| *given && !wanted).map(|(key, ..)| *key);
    let bundle = u.bundle.is_some() && matches!(u.kind, UpstreamKind::Nested | UpstreamKind::Own);
    if let Some(key) = given.or_else(|| bundle.then_some("bundle")) {
        return Some(format!("upstream.{key}: is not of upstream.kind = \"{kind}\"; name the kind it is for"));
    }
    if u.kind == UpstreamKind::Offline && config.keys.store == KeyStoreKind::Memory {
        return Some(
            "keys.store: \"memory\" forgets the key that a ceremony signed; say \"disk\" or \"pkcs11\"".into(),
        );
    }
    if let Some((key, _, _, what)) = needs.iter().find(|(_, wanted, given, _)| *wanted && !given) {
        return Some(format!("upstream.{key}: kind = \"{kind}\" {what}"));
    }
    let port = |server: &String| {
        server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if u.server.as_ref().is_some_and(|server| !port(server)) {
        return Some("upstream.server: write host:port, for example \"ca.prod.example.org:8081\"".into());
    }
    if u.workload_socket.as_ref().is_some_and(|socket| !socket.is_absolute()) {
        return Some("upstream.workload_socket: give the whole path of the socket".into());
    }
    u.pkcs11.as_ref().and_then(|key| key.check().err()).map(|problem| format!("upstream.pkcs11.{problem}"))
}

fn limits(config: &Config) -> Option<String> {
    let l = &config.limits;
    let counts = [
        ("limits.handshakes", l.handshakes),
        ("limits.connections", l.connections),
        ("limits.connections_per_source", l.connections_per_source),
        ("limits.attestations", l.attestations),
        ("limits.attestations_per_source", l.attestations_per_source),
        ("limits.begins_per_class", l.begins_per_class),
    ];
    if let Some((key, _)) = counts.iter().find(|(_, n)| *n == 0) {
        return Some(format!("{key}: 0 would let nobody in; use at least 1"));
    }
    let spans = [("limits.handshake_timeout", l.handshake_timeout), ("limits.connection_age", l.connection_age)];
    spans.iter().find(|(_, s)| s.0.is_zero()).map(|(key, _)| format!("{key}: must be longer than 0"))
}

fn keys(config: &Config) -> Option<String> {
    match (config.keys.store, &config.keys.pkcs11) {
        (KeyStoreKind::Pkcs11, Some(token)) => token.check().err().map(|problem| format!("keys.pkcs11.{problem}")),
        (KeyStoreKind::Pkcs11, None) => {
            Some("keys.pkcs11: store = \"pkcs11\" needs this table with module and uri".into())
        }
        (KeyStoreKind::Disk | KeyStoreKind::Memory, Some(_)) => {
            Some("keys.store: keys.pkcs11 is given; say store = \"pkcs11\" or remove the table".into())
        }
        (KeyStoreKind::Disk | KeyStoreKind::Memory, None) => None,
    }
}

fn rest(config: &Config) -> Option<String> {
    if config.node_attestors.is_empty() {
        return Some("node_attestors: name at least one, for example [\"tpm\"]".into());
    }
    if config.tpm.enrol == Enrol::Open && config.tpm.allow.is_empty() {
        return Some("tpm.allow: enrol = \"open\" needs a list of {manufacturer, model}".into());
    }
    if config.pkcs11.enrolment_ca_file.is_none() && !config.pkcs11.enrolment_crl_files.is_empty() {
        return Some("pkcs11.enrolment_crl_files: nobody's CRLs without pkcs11.enrolment_ca_file; name both".into());
    }
    if config.database_requires == Require::Replicated && !config.database().starts_with("postgres") {
        return Some(
            "database_requires: \"replicated\" needs a PostgreSQL with a synchronous standby; a SQLite file is on one machine"
                .into(),
        );
    }
    let id = config.server_id.as_deref().unwrap_or("x");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if id.is_empty() || id.len() > MAX_SERVER_ID || !id.bytes().all(plain) {
        return Some(format!("server_id: use 1 to {MAX_SERVER_ID} of letters, digits, '.', '-', '_'"));
    }
    None
}
