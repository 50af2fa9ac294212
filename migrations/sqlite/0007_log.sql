-- Which run of which server signs checkpoints of the record; empty: none. The fence grows with every new holder.
-- Whether the holder lives, its server's claim shows.
CREATE TABLE log_lease (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 0),
    server TEXT NOT NULL,
    nonce TEXT NOT NULL,
    fence BIGINT NOT NULL
);
INSERT INTO log_lease (id, server, nonce, fence) VALUES (0, '', '', 0);

-- Signed checkpoints of each epoch's log: the newest, and of earlier ones the last of every 4,096 events.
-- note: the signed note, as it is shown. fence: under which lease it was signed.
CREATE TABLE checkpoints (
    epoch BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root BLOB NOT NULL,
    fence BIGINT NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (epoch, size)
);
