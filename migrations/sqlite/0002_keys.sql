-- The journal of signing keys: one row per key, written before the key exists and kept after it is destroyed.
-- label: name of the key in its store. version: compare-and-swap. spki: DER, known once the key was generated.
-- keep_until: nothing the key signed is valid any more from then on; no key is destroyed before.
CREATE TABLE keys (
    label TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('x509', 'jwt')),
    server TEXT NOT NULL,
    key_type TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('planned', 'generating', 'generated', 'condemned', 'destroyed', 'lost')),
    version BIGINT NOT NULL,
    spki BLOB UNIQUE,
    planned_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    keep_until BIGINT,
    note TEXT NOT NULL
);
CREATE INDEX keys_server ON keys (server, state);

-- Keys from before the journal: their name was their authority's ID. The program fills in a missing spki.
INSERT INTO keys (label, kind, server, key_type, state, version, spki, planned_at, changed_at, keep_until, note)
    SELECT id, kind, server, 'ec-p256', 'generated', 0, CASE kind WHEN 'jwt' THEN public END,
        not_before, not_before, NULL, '' FROM authorities;

-- label: the key. chain: certificates that go along with a leaf, DER one after the other; empty where the authority
-- is itself in the bundle. upstream_id: key ID of what signed it; empty where it signed itself.
-- SQLite changes no CHECK in place: the table is made again.
CREATE TABLE authorities_next (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('x509', 'jwt')),
    server TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'old', 'revoked')),
    public BLOB NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    chain BLOB NOT NULL DEFAULT x'',
    upstream_id TEXT NOT NULL DEFAULT '',
    published_at BIGINT NOT NULL DEFAULT 0,
    tainted_at BIGINT
);
INSERT INTO authorities_next (id, kind, server, state, public, not_before, not_after, label, published_at)
    SELECT id, kind, server, state, public, not_before, not_after, id, not_before FROM authorities;
DROP TABLE authorities;
ALTER TABLE authorities_next RENAME TO authorities;
