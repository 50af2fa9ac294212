-- Where in the log a name occurs: as the subject of an event, or as its serial. Built behind the log, a stretch of numbers at a time,
-- so that issuing does not pay for it; what is not built yet is read from the log's end.
-- places: 10 bytes each, the first 8 of SHA-256(name) and the number above `first`; shard: the upper 6 bits of the hash.
-- ends_at: when the last of what these events issued has ended; 0 = they issued nothing.
CREATE TABLE log_index (
    shard BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    first BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    places BLOB NOT NULL,
    PRIMARY KEY (shard, epoch, first)
);

-- The first number that is not in it.
CREATE TABLE log_indexed (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 0),
    epoch BIGINT NOT NULL,
    next BIGINT NOT NULL
);
INSERT INTO log_indexed (id, epoch, next) VALUES (0, 0, 0);

-- The number of the event that `cause` names; -1: of before this column.
ALTER TABLE revocations ADD COLUMN cause_number BIGINT NOT NULL DEFAULT -1;
ALTER TABLE revoked_ids ADD COLUMN cause_number BIGINT NOT NULL DEFAULT -1;

-- Lower-case hex; NULL: the executable was not measured.
ALTER TABLE instances ADD COLUMN sha256 TEXT;
UPDATE instances SET sha256 = (SELECT c.value FROM events e JOIN event_clear c
    ON c.epoch = e.epoch AND c.number = e.number AND c.field = 'sha256'
    WHERE e.subject = instances.id AND e.kind = 'instance.begun');

-- It cost an issuance a fifth of its time.
DROP INDEX events_subject;
