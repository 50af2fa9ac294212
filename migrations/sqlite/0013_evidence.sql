-- What nodes said when they proved themselves, by SHA-256: a document for each attestation, and the messages that it names.
-- A message that is said again (most openings are) is here once and stays as long as the newest that names it.
CREATE TABLE evidence (
    sha256 BLOB NOT NULL PRIMARY KEY,
    bytes BLOB NOT NULL,
    kept_until BIGINT NOT NULL
);
CREATE INDEX evidence_kept_until ON evidence (kept_until);
