-- What an operator closed: a process of this class begins nowhere ('*') or not on this node, until it is reopened.
CREATE TABLE class_closures (
    class TEXT NOT NULL,
    node_id TEXT NOT NULL,
    closed_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (class, node_id)
);

-- Executables (lower-case hex SHA-256) of which no process becomes an instance any more.
CREATE TABLE revoked_executables (
    sha256 TEXT NOT NULL PRIMARY KEY,
    revoked_at BIGINT NOT NULL,
    reason TEXT NOT NULL
);

-- Certificates that are not to be accepted; a row stays at least until the certificate has ended.
-- cause_kind, cause: kind and subject of the event that was the operator's act, or the node's failure.
CREATE TABLE revocations (
    authority TEXT NOT NULL,
    serial TEXT NOT NULL,
    subject TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    cause_kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (authority, serial)
);
CREATE INDEX revocations_expires_at ON revocations (expires_at);
CREATE INDEX revocations_cause ON revocations (cause, cause_kind);

-- IDs: 'all' = whatever was issued for it (an instance's ID is never given again); 'tokens' = JWT-SVIDs issued up to
-- issued_until. From expires_at on nothing of it is valid by itself.
CREATE TABLE revoked_ids (
    subject TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('all', 'tokens')),
    issued_until BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    cause_kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (subject, scope)
);
CREATE INDEX revoked_ids_expires_at ON revoked_ids (expires_at);
CREATE INDEX revoked_ids_cause ON revoked_ids (cause, cause_kind);

-- What was issued to whom is found in the log.
CREATE INDEX events_subject ON events (subject, at);
