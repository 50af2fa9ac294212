-- Attestation keys in tokens that an operator enrolled.
CREATE TABLE key_enrolments (
    key_sha256 BLOB NOT NULL PRIMARY KEY,
    note TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL
);

-- The attestation key a node is bound to and the address it was last used from; the key of the node's newest SVID.
ALTER TABLE nodes ADD COLUMN key_sha256 BLOB;
ALTER TABLE nodes ADD COLUMN key_source TEXT;
ALTER TABLE nodes ADD COLUMN svid_key BLOB;
CREATE UNIQUE INDEX nodes_key_sha256 ON nodes (key_sha256);
CREATE INDEX nodes_svid_key ON nodes (svid_key);
