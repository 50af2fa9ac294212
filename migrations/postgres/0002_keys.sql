-- The journal of signing keys: one row per key, written before the key exists and kept after it is destroyed.
-- label: name of the key in its store. version: compare-and-swap. spki: DER, known once the key was generated.
-- keep_until: nothing the key signed is valid any more from then on; no key is destroyed before.
CREATE TABLE keys (
    label TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('x509', 'jwt')),
    server TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL
        CHECK (state IN ('planned', 'generating', 'generated', 'condemned', 'destroyed', 'lost')),
    version BIGINT NOT NULL,
    spki BYTEA UNIQUE,
    planned_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    keep_until BIGINT,
    note TEXT COLLATE "C" NOT NULL
);
CREATE INDEX keys_server ON keys (server, state);

-- Keys from before the journal: their name was their authority's ID. The program fills in a missing spki.
INSERT INTO keys (label, kind, server, key_type, state, version, spki, planned_at, changed_at, keep_until, note)
    SELECT id, kind, server, 'ec-p256', 'generated', 0, CASE kind WHEN 'jwt' THEN public END,
        not_before, not_before, NULL, '' FROM authorities;

-- label: the key. chain: certificates that go along with a leaf, DER one after the other; empty where the authority
-- is itself in the bundle. upstream_id: key ID of what signed it; empty where it signed itself.
ALTER TABLE authorities ADD COLUMN label TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE authorities ADD COLUMN chain BYTEA NOT NULL DEFAULT '';
ALTER TABLE authorities ADD COLUMN upstream_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE authorities ADD COLUMN published_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE authorities ADD COLUMN tainted_at BIGINT;
UPDATE authorities SET label = id, published_at = not_before;
ALTER TABLE authorities DROP CONSTRAINT authorities_state_check;
ALTER TABLE authorities ADD CONSTRAINT authorities_state_check
    CHECK (state IN ('prepared', 'active', 'old', 'revoked'));
