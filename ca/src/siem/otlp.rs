//! Logs by OTLP over HTTP, in its JSON encoding. Source: opentelemetry.io, OTLP 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding".

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{
    form::{Form, class, severity},
    net::Peer,
};
use crate::{config::Siem, store::StoredEvent};

/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The collector.
pub(super) struct Collector {
    peer: Peer,
    host: String,
    path: String,
}

impl Collector {
    pub(super) fn open(config: &Siem) -> Result<Self, String> {
        let url = config.url.as_deref().ok_or("url: needed for otlp")?;
        let url: Uri = url.parse().map_err(|e| format!("url: {e}"))?;
        let host = url.authority().ok_or("url: has no host")?.as_str().to_owned();
        if host.contains('@') {
            return Err("url: no user and password".into());
        }
        let is_secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let address = format!("{}:{port}", url.host().unwrap_or_default());
        let peer = if is_secure { Peer::secure(address, config)? } else { Peer::plain(address) };
        Ok(Self { peer, host, path: url.path().to_owned() })
    }

    pub(super) async fn deliver(&self, form: &Form, events: &[StoredEvent]) -> Result<(), String> {
        let told = |what: &dyn std::fmt::Display| format!("{}: {what}", self.peer.address);
        let io = self.peer.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| told(&e))?;
        let connection = tokio::spawn(connection);
        let request = Request::post(&self.path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(logs(form, events).to_string())));
        let request = request.map_err(|e| told(&e))?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|e| told(&e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| told(&e))?;
            judge(status, &body.to_bytes()).map_err(|why| told(&why))
        };
        let answered = answered.await;
        connection.abort();
        answered
    }
}

/// Whether the collector has all of them. One that it rejects it will never take: it is told in the log, and not sent for ever.
fn judge(status: StatusCode, body: &[u8]) -> Result<(), String> {
    if status != StatusCode::OK {
        let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
        return Err(format!("{status} {said}"));
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let rejected = &answer["partialSuccess"]["rejectedLogRecords"];
    if rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).is_some_and(|rejected| rejected > 0) {
        tracing::error!(answer = %answer["partialSuccess"], "the collector rejects events for good");
    }
    Ok(())
}

fn logs(form: &Form, events: &[StoredEvent]) -> Value {
    let records: Vec<_> = events.iter().map(|event| record(form, event)).collect();
    json!({ "resourceLogs": [{
        "resource": { "attributes": [
            text("service.name", "chancery-ca"),
            text("service.instance.id", &form.server),
            text("chancery.trust_domain", &form.domain),
        ] },
        "scopeLogs": [{ "scope": { "name": "chancery.record", "version": env!("CARGO_PKG_VERSION") }, "logRecords": records }],
    }] })
}

fn record(form: &Form, event: &StoredEvent) -> Value {
    let record = form.write(event);
    let class = class(&record.kind);
    // Of OTLP's 24: 9 is INFO, 13 WARN, 21 FATAL.
    let (number, name) = match severity(&record.kind) {
        5 => (21, "FATAL"),
        3 => (13, "WARN"),
        _ => (9, "INFO"),
    };
    let nanos = format!("{}000000000", record.at.max(0));
    json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": number,
        "severityText": name,
        "eventName": record.kind,
        "body": { "stringValue": record.line },
        "attributes": [
            text("chancery.event.uid", &record.uid),
            text("chancery.event.kind", &record.kind),
            text("ocsf.class_name", class.name),
        ],
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
