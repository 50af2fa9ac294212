//! Answers for people: SPIRE's blocks where SPIRE has them (spire-wire 5.3), blocks of the same form elsewhere.

use std::fmt::{Display, Write};

use chancery_proto::{
    chancery::admin::v1 as admin,
    spire::api::{server::localauthority::v1::AuthorityState, types},
};

use super::value::{expiry, joined, rfc3339};

/// Columns of a label in an entry's block.
const ENTRY_COLUMN: usize = 24;
/// Columns of a label in other blocks.
const COLUMN: usize = 18;

/// Lines of aligned labels and values.
struct Block {
    text: String,
    column: usize,
}

impl Block {
    fn new(column: usize) -> Self {
        Self { text: String::new(), column }
    }

    fn line(&mut self, label: &str, value: impl Display) -> &mut Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{label:<width$}: {value}", width = self.column);
        self
    }

    fn line_if(&mut self, shown: bool, label: &str, value: impl Display) -> &mut Self {
        if shown { self.line(label, value) } else { self }
    }

    fn each(&mut self, label: &str, values: impl IntoIterator<Item = impl Display>) -> &mut Self {
        values.into_iter().for_each(|value| {
            self.line(label, value);
        });
        self
    }

    fn end(&mut self) -> String {
        self.text.push('\n');
        std::mem::take(&mut self.text)
    }
}

/// Blocks below a line that says how many there are.
pub fn listed<T>(list: &[T], what: &str, block: impl Fn(&T) -> String) -> String {
    let mut text = format!("Found {} {what}\n", list.len());
    list.iter().for_each(|one| text.push_str(&block(one)));
    text
}

fn selectors(list: &[types::Selector]) -> impl Iterator<Item = String> {
    list.iter().map(|s| format!("{}:{}", s.r#type, s.value))
}

fn ttl(secs: i32) -> String {
    if secs == 0 { "default".into() } else { secs.to_string() }
}

pub fn entry(entry: &types::Entry) -> String {
    let attributes = entry.additional_attributes.unwrap_or_default();
    let mut block = Block::new(ENTRY_COLUMN);
    block
        .line("Entry ID", if entry.id.is_empty() { "(none)" } else { &entry.id })
        .line("SPIFFE ID", joined(entry.spiffe_id.as_ref()))
        .line("Parent ID", joined(entry.parent_id.as_ref()))
        .line("Revision", entry.revision_number)
        .line_if(entry.downstream, "Downstream", true)
        .line("X509-SVID TTL", ttl(entry.x509_svid_ttl))
        .line("JWT-SVID TTL", ttl(entry.jwt_svid_ttl));
    if let Some(at) = expiry(entry.expires_at) {
        block.line("Expiration time", rfc3339(at.0));
    }
    block
        .each("Selector", selectors(&entry.selectors))
        .each("FederatesWith", &entry.federates_with)
        .each("DNS name", &entry.dns_names)
        .line_if(entry.admin, "Admin", true)
        .line_if(entry.store_svid, "StoreSvid", true)
        .line_if(!entry.hint.is_empty(), "Hint", &entry.hint)
        .line_if(attributes.disable_x509_svid_prefetch, "DisableX509SvidPrefetch", true)
        .line_if(attributes.jwt_svid_include_jti, "JwtSvidIncludeJti", true)
        .end()
}

pub fn class(class: &admin::Class) -> String {
    Block::new(COLUMN)
        .line("Class", &class.name)
        .line("Parent ID", &class.parent_id)
        .line("Revision", class.revision)
        .line("X509-SVID TTL", ttl(class.x509_svid_ttl))
        .each("Selector", selectors(&class.selectors))
        .line_if(class.allow_unproven_nodes, "Unproven nodes", "ALLOWED")
        .end()
}

pub fn instance(instance: &admin::Instance) -> String {
    let ended = instance.ended_at != 0;
    Block::new(COLUMN)
        .line("Instance", &instance.id)
        .line("Class", &instance.class_name)
        .line("Node", &instance.node_id)
        .line("Standing", &instance.standing)
        .line_if(instance.held_until != 0, "Held until", rfc3339(instance.held_until))
        .line("Begun", rfc3339(instance.begun_at))
        .line_if(ended, "Ended", rfc3339(instance.ended_at))
        .line_if(ended, "Reason", &instance.end_reason)
        .line("Serial number", &instance.serial_number)
        .line("Expiration time", rfc3339(instance.expires_at))
        .end()
}

pub fn node(node: &admin::Node) -> String {
    Block::new(COLUMN)
        .line("SPIFFE ID", &node.id)
        .line("Attestation type", &node.attestation_type)
        .line("Standing", &node.standing)
        .line_if(!node.reason.is_empty(), "Reason", &node.reason)
        .line_if(node.expires_at != 0, "Expiration time", rfc3339(node.expires_at))
        .line_if(!node.serial_number.is_empty(), "Serial number", &node.serial_number)
        .line("Can re-attest", node.can_reattest)
        .line("Attested", rfc3339(node.attested_at))
        .line("Live instances", node.live_instances)
        .line_if(!node.agent_version.is_empty(), "Agent version", &node.agent_version)
        .each("Selector", selectors(&node.selectors))
        .end()
}

pub fn anchor(anchor: &admin::Anchor) -> String {
    Block::new(COLUMN)
        .line("Fingerprint", &anchor.fingerprint)
        .line("Subject", &anchor.subject)
        .line("Manufacturer", if anchor.manufacturer.is_empty() { "any" } else { &anchor.manufacturer })
        .line("Expiration time", rfc3339(anchor.not_after))
        .line_if(!anchor.note.is_empty(), "Note", &anchor.note)
        .end()
}

pub fn explained(told: &admin::ExplainPolicyResponse) -> String {
    let verdict = if told.admitted { "admitted" } else { "refused" };
    let mut text = format!("Policy '{}': {verdict}\n", told.policy);
    for rule in &told.rules {
        let mark = if rule.passed { "ok  " } else { "FAIL" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {mark} {}: {}", rule.rule, rule.detail);
    }
    text
}

/// SPIRE's block of an authority.
pub fn authority_state(state: &AuthorityState) -> String {
    let mut text = format!("  Authority ID: {}\n", state.authority_id);
    if state.expires_at > 0 {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  Expires at: {}", rfc3339(state.expires_at));
    }
    if !state.upstream_authority_subject_key_id.is_empty() {
        let _ = writeln!(text, "  Upstream authority Subject Key ID: {}", state.upstream_authority_subject_key_id);
    }
    text
}

pub fn authorities(all: &admin::ListAuthoritiesResponse) -> String {
    let mut text = listed(&all.authorities, "keys", authority);
    for label in &all.orphans {
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "Orphan in the key store of {}: {label} (no row in the journal; never deleted)", all.server);
    }
    if !all.needs.is_empty() {
        let _ = writeln!(text, "Server {} waits: {}", all.server, all.needs);
    }
    text
}

pub fn authority(authority: &admin::Authority) -> String {
    let has_authority = !authority.authority_id.is_empty();
    Block::new(COLUMN)
        .line("Kind", &authority.kind)
        .line_if(has_authority, "Authority ID", &authority.authority_id)
        .line("State", &authority.state)
        .line_if(authority.tainted_at > 0, "Tainted", rfc3339(authority.tainted_at))
        .line_if(has_authority, "Expires at", rfc3339(authority.expires_at))
        .line_if(
            !authority.upstream_authority_subject_key_id.is_empty(),
            "Upstream",
            &authority.upstream_authority_subject_key_id,
        )
        .line("Server", &authority.server)
        .line("Key", format!("{} ({}, {})", authority.key_label, authority.key_type, authority.key_state))
        .line_if(!authority.spki_sha256.is_empty(), "Key SHA-256", &authority.spki_sha256)
        .line_if(!authority.note.is_empty(), "Note", &authority.note)
        .end()
}

/// What was hit, and until when somebody may accept it all the same.
pub fn revoked(done: &admin::RevokeResponse) -> String {
    let (instances, svids, ids) = (done.instances, done.certificates, done.token_ids);
    let mut text = format!("Revoked: {instances} instances, {svids} X509-SVIDs, JWT-SVIDs of {ids} further IDs\n");
    if !done.spiffe_id.is_empty() {
        let _ = writeln!(
            text,
            "It was of {}, who may be given another one: --instance or --entry ends that",
            done.spiffe_id
        );
    }
    match done.until {
        0 => text.push_str("Nothing that was issued is valid any more.\n"),
        // Writing to a String does not fail.
        until => drop(writeln!(
            text,
            "Peers that follow the list refuse from now on; whoever has no list may accept until {}.",
            rfc3339(until)
        )),
    }
    for closed in &done.closed {
        let (class, node) = (&closed.class_name, &closed.node_id);
        let node = if node == "*" { "every node" } else { node };
        let _ = writeln!(text, "Closed: class {class} on {node}, until `class reopen`");
    }
    if done.connections > 0 {
        let _ = writeln!(text, "Connections of the node closed here: {}", done.connections);
    }
    text
}

pub fn revocations(all: &admin::ListRevocationsResponse) -> String {
    let mut text = listed(&all.revocations, "revocations", revocation);
    for closed in &all.closures {
        let text_of = Block::new(COLUMN)
            .line("Closed class", &closed.class_name)
            .line("Node", &closed.node_id)
            .line("Closed", rfc3339(closed.closed_at))
            .line("Reason", &closed.reason)
            .end();
        text.push_str(&text_of);
    }
    for executable in &all.executables {
        let text_of = Block::new(COLUMN)
            .line("Executable", &executable.sha256)
            .line("Revoked", rfc3339(executable.revoked_at))
            .line("Reason", &executable.reason)
            .end();
        text.push_str(&text_of);
    }
    text
}

fn revocation(one: &admin::Revocation) -> String {
    let is_certificate = one.scope == "certificate";
    let what = match one.scope.as_str() {
        "all" => "everything".to_owned(),
        "tokens" => format!("JWT-SVIDs issued until {}", rfc3339(one.issued_until)),
        _ => "X509-SVID".to_owned(),
    };
    Block::new(COLUMN)
        .line("SPIFFE ID", &one.spiffe_id)
        .line("What", what)
        .line_if(is_certificate, "Authority ID", &one.authority_id)
        .line_if(is_certificate, "Serial number", &one.serial_number)
        .line("Revoked", rfc3339(one.revoked_at))
        .line_if(!one.reason.is_empty(), "Reason", &one.reason)
        .line("Cause", format!("{} {} (event {})", one.cause, one.cause_subject, one.number))
        .line("Expiration time", rfc3339(one.expires_at))
        .end()
}

pub fn hold(one: &admin::Hold) -> String {
    let by = if one.detector.is_empty() { "an operator".to_owned() } else { format!("detector {}", one.detector) };
    Block::new(COLUMN)
        .line("Instance", &one.instance)
        .line("Class", &one.class_name)
        .line("Node", &one.node_id)
        .line("Placed", format!("{} by {by}", rfc3339(one.placed_at)))
        .line("Reason", &one.reason)
        .line("Held until", rfc3339(one.until))
        .end()
}

pub fn proposal(one: &admin::Proposal) -> String {
    let hold = match one.hold.as_str() {
        "" => "not configured".to_owned(),
        "capped" => format!("none: {}", one.capped),
        word => word.to_owned(),
    };
    let (open, number) = (one.reviewed_at == 0, one.number);
    let act = format!(
        "chancery-ca hold place --instance {id} --reason ..., or revoke --instance {id} --reason ...",
        id = one.instance
    );
    let next = format!("chancery-ca proposal review {number} --verdict incident|false-alarm --reason ...");
    Block::new(COLUMN)
        .line("Proposal", number)
        .line("Instance", &one.instance)
        .line("Class", &one.class_name)
        .line("Node", &one.node_id)
        .line_if(!one.standing.is_empty(), "Standing", &one.standing)
        .line("Detector", &one.detector)
        .line("Evidence", seen(&one.evidence))
        .line_if(!one.places.is_empty(), "Places", one.places.join(", "))
        .line("Hold", hold)
        .line("Opened", rfc3339(one.opened_at))
        .line_if(open && one.standing == "good", "Contain", act)
        .line_if(open, "Then", next)
        .line_if(!open, "Verdict", format!("{}: {}", one.verdict, one.reason))
        .line_if(!open, "Began", rfc3339(one.began_at))
        .line_if(one.verdict == "incident", "Contained", rfc3339(one.contained_at))
        .end()
}

/// Evidence in words.
fn seen(evidence: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(evidence).unwrap_or_default();
    let of = |key: &str| json.get(key).and_then(serde_json::Value::as_i64).unwrap_or_default();
    format!("{} times, {} to {}", of("count"), rfc3339(of("first")), rfc3339(of("last")))
}
