-- The one counter: every writing transaction takes this row first.
-- Texts collate by bytes, as in SQLite.
-- A low fillfactor leaves room on the page for the versions that each update makes.
CREATE TABLE counter (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 0),
    epoch BIGINT NOT NULL,
    next BIGINT NOT NULL,
    bundle_revision BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO counter (id, epoch, next, bundle_revision) VALUES (0, 0, 0, 0);

-- The one log. bytes = canonical JSON, hash = SHA-256(0x00 || bytes).
CREATE TABLE events (
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    bytes BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (epoch, number)
);

-- Clear values of personal facts: erasable without touching the log.
CREATE TABLE event_clear (
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    field TEXT COLLATE "C" NOT NULL,
    salt BYTEA NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (epoch, number, field)
);

-- selectors and dns_names: JSON arrays of strings; selectors sorted, so equal sets have equal texts.
CREATE TABLE entries (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    spiffe_id TEXT COLLATE "C" NOT NULL,
    parent_id TEXT COLLATE "C" NOT NULL,
    selectors TEXT COLLATE "C" NOT NULL,
    x509_svid_ttl BIGINT NOT NULL,
    jwt_svid_ttl BIGINT NOT NULL,
    admin BOOLEAN NOT NULL,
    downstream BOOLEAN NOT NULL,
    expires_at BIGINT,
    dns_names TEXT COLLATE "C" NOT NULL,
    hint TEXT COLLATE "C" NOT NULL,
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
    entry_id TEXT COLLATE "C" NOT NULL,
    place BIGINT NOT NULL,
    trust_domain TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (entry_id, place)
);
CREATE INDEX entry_federates_trust_domain ON entry_federates (trust_domain);

CREATE TABLE classes (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    parent_id TEXT COLLATE "C" NOT NULL,
    selectors TEXT COLLATE "C" NOT NULL,
    x509_svid_ttl BIGINT NOT NULL,
    any_node BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- hash: lower-case hex SHA-256; the clear token is nowhere.
CREATE TABLE join_tokens (
    hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    spent_at BIGINT
);

CREATE TABLE enrolments (
    ek_hash BYTEA NOT NULL PRIMARY KEY,
    note TEXT COLLATE "C" NOT NULL,
    enrolled_at BIGINT NOT NULL
);

CREATE TABLE anchors (
    fingerprint TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    der BYTEA NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    manufacturer TEXT COLLATE "C" NOT NULL,
    not_after BIGINT NOT NULL,
    note TEXT COLLATE "C" NOT NULL,
    imported_at BIGINT NOT NULL
);

-- An EK and an attestation key each belong to one node.
CREATE TABLE nodes (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    attestation_type TEXT COLLATE "C" NOT NULL,
    standing TEXT COLLATE "C" NOT NULL CHECK (standing IN ('good', 'failed', 'banned')),
    reason TEXT COLLATE "C" NOT NULL,
    current_serial TEXT COLLATE "C",
    current_expires_at BIGINT,
    fresh_serial TEXT COLLATE "C",
    fresh_expires_at BIGINT,
    selectors TEXT COLLATE "C" NOT NULL,
    can_reattest BOOLEAN NOT NULL,
    agent_version TEXT COLLATE "C" NOT NULL,
    attested_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    boot BYTEA NOT NULL,
    ek_hash BYTEA UNIQUE,
    ak_name BYTEA UNIQUE,
    activated_at BIGINT,
    boot_state TEXT COLLATE "C",
    evidence BYTEA
);

-- An instance ID never repeats; a process is one instance at most, for ever.
CREATE TABLE instances (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    class TEXT COLLATE "C" NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL,
    start_token BYTEA NOT NULL,
    standing TEXT COLLATE "C" NOT NULL CHECK (standing IN ('good', 'ended', 'revoked')),
    begun_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT COLLATE "C" NOT NULL,
    serial TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (node_id, start_token)
);
CREATE INDEX instances_node ON instances (node_id, standing);
CREATE INDEX instances_class ON instances (class, standing);

-- A public key belongs to one instance for ever.
CREATE TABLE instance_keys (
    spki_sha256 BYTEA NOT NULL PRIMARY KEY,
    instance_id TEXT COLLATE "C" NOT NULL
);

CREATE TABLE authorities (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('x509', 'jwt')),
    server TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('prepared', 'active', 'old')),
    public BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

CREATE TABLE federated_bundles (
    trust_domain TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    json BYTEA NOT NULL,
    updated_at BIGINT NOT NULL
);
