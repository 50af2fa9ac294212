-- The one counter: every writing transaction takes this row first.
CREATE TABLE counter (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 0),
    epoch BIGINT NOT NULL,
    next BIGINT NOT NULL,
    bundle_revision BIGINT NOT NULL
);
INSERT INTO counter (id, epoch, next, bundle_revision) VALUES (0, 0, 0, 0);

-- The one log. bytes = canonical JSON, hash = SHA-256(0x00 || bytes).
CREATE TABLE events (
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    server TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    bytes BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (epoch, number)
);

-- Clear values of personal facts: erasable without touching the log.
CREATE TABLE event_clear (
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    field TEXT NOT NULL,
    salt BLOB NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (epoch, number, field)
);

-- selectors and dns_names: JSON arrays of strings; selectors sorted, so equal sets have equal texts.
CREATE TABLE entries (
    id TEXT NOT NULL PRIMARY KEY,
    spiffe_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    x509_svid_ttl BIGINT NOT NULL,
    jwt_svid_ttl BIGINT NOT NULL,
    admin BOOLEAN NOT NULL,
    downstream BOOLEAN NOT NULL,
    expires_at BIGINT,
    dns_names TEXT NOT NULL,
    hint TEXT NOT NULL,
    store_svid BOOLEAN NOT NULL,
    disable_x509_svid_prefetch BOOLEAN NOT NULL,
    jwt_svid_include_jti BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX entries_spiffe_id ON entries (spiffe_id);
CREATE INDEX entries_parent_id ON entries (parent_id);
CREATE INDEX entries_expires_at ON entries (expires_at);

CREATE TABLE entry_federates (
    entry_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    trust_domain TEXT NOT NULL,
    PRIMARY KEY (entry_id, place)
);
CREATE INDEX entry_federates_trust_domain ON entry_federates (trust_domain);

CREATE TABLE classes (
    name TEXT NOT NULL PRIMARY KEY,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    x509_svid_ttl BIGINT NOT NULL,
    any_node BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- hash: lower-case hex SHA-256; the clear token is nowhere.
CREATE TABLE join_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    spent_at BIGINT
);

CREATE TABLE enrolments (
    ek_hash BLOB NOT NULL PRIMARY KEY,
    note TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL
);

CREATE TABLE anchors (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    der BLOB NOT NULL,
    subject TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    note TEXT NOT NULL,
    imported_at BIGINT NOT NULL
);

-- An EK and an attestation key each belong to one node.
CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    attestation_type TEXT NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('good', 'failed', 'banned')),
    reason TEXT NOT NULL,
    current_serial TEXT,
    current_expires_at BIGINT,
    fresh_serial TEXT,
    fresh_expires_at BIGINT,
    selectors TEXT NOT NULL,
    can_reattest BOOLEAN NOT NULL,
    agent_version TEXT NOT NULL,
    attested_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    boot BLOB NOT NULL,
    ek_hash BLOB UNIQUE,
    ak_name BLOB UNIQUE,
    activated_at BIGINT,
    boot_state TEXT,
    evidence BLOB
);

-- An instance ID never repeats; a process is one instance at most, for ever.
CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    class TEXT NOT NULL,
    node_id TEXT NOT NULL,
    start_token BLOB NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('good', 'ended', 'revoked')),
    begun_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT NOT NULL,
    serial TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (node_id, start_token)
);
CREATE INDEX instances_node ON instances (node_id, standing);
CREATE INDEX instances_class ON instances (class, standing);

-- A public key belongs to one instance for ever.
CREATE TABLE instance_keys (
    spki_sha256 BLOB NOT NULL PRIMARY KEY,
    instance_id TEXT NOT NULL
);

CREATE TABLE authorities (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('x509', 'jwt')),
    server TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'old')),
    public BLOB NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

CREATE TABLE federated_bundles (
    trust_domain TEXT NOT NULL PRIMARY KEY,
    json BLOB NOT NULL,
    updated_at BIGINT NOT NULL
);
