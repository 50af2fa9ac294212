-- Which run of a server may write. The beat goes on while it lives; no clock is compared.
CREATE TABLE server_claims (
    server TEXT NOT NULL PRIMARY KEY,
    nonce TEXT NOT NULL,
    beat BIGINT NOT NULL
);
