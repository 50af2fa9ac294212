-- The newest certificate revocation list of each CA, for every server to hand out.
-- issuer: hex key identifier of the CA that signed it; authority: what its certificates are listed under.
-- number: grows with every list. revoked: how many it names. issuer_ends: from then on nothing that CA signed is valid.
-- chain: DER certificates from that CA up to below the bundle, concatenated; empty where it is in the bundle itself.
CREATE TABLE crls (
    issuer TEXT NOT NULL PRIMARY KEY,
    authority TEXT NOT NULL,
    number BIGINT NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    issuer_ends BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    chain BLOB NOT NULL,
    der BLOB NOT NULL
);
