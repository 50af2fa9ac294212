-- Authorities of this trust domain whose keys no server of this database has: JWT keys that downstream servers
-- published (source: the entry's ID), and what the bundle of an upstream server has (source: upstream/ and our server).
CREATE TABLE guest_authorities (
    source TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('x509', 'jwt')),
    id TEXT NOT NULL,
    public BLOB NOT NULL,
    not_after BIGINT NOT NULL,
    published_at BIGINT NOT NULL,
    tainted_at BIGINT,
    PRIMARY KEY (source, kind, id)
);
